"""Small random Whisper models, and writers that lay one out as each folder format.

Nothing here uses the readers under test: the writers follow the formats' own descriptions.
"""

import json
import struct
from dataclasses import asdict

import mlx.core as mx
import numpy as np

from worker.models.whisper.weights.parameters import (
    Dimensions,
    Weights,
    parameter_shapes,
    sinusoids,
)

HF_LAYER = {
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj",
    "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp1": "fc1",
    "mlp2": "fc2",
    "mlp_ln": "final_layer_norm",
}
CT2_TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def tiny_dimensions(n_mels=80, *, multilingual=False, width=64, heads=2, layers=2, n_vocab=None):
    """Return sizes of a model small enough for a test, with a real vocabulary and window."""
    vocabulary = n_vocab or ((51866 if n_mels == 128 else 51865) if multilingual else 51864)
    return Dimensions(
        n_mels=n_mels,
        n_audio_ctx=1500,
        n_audio_state=width,
        n_audio_head=heads,
        n_audio_layer=layers,
        n_vocab=vocabulary,
        n_text_ctx=448,
        n_text_state=width,
        n_text_head=heads,
        n_text_layer=layers,
    )


def tiny_random_whisper(
    n_mels=80, *, multilingual=False, seed=0, width=64, heads=2, layers=2, dtype=mx.float32
):
    """Return random `Weights` of a Whisper of 2 layers, 64 wide, with the real vocabulary."""
    dims = tiny_dimensions(
        n_mels, multilingual=multilingual, width=width, heads=heads, layers=layers
    )
    generator = np.random.default_rng(seed)
    arrays = {
        name: mx.array(_random(generator, name, shape)).astype(dtype)
        for name, shape in parameter_shapes(dims).items()
    }
    pairs = [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]
    return Weights(
        dims=dims,
        arrays=arrays,
        alignment_heads=np.array(pairs, dtype=np.int64),
        quantization=None,
        name="tiny-random",
        revision=f"seed-{seed}",
        source="memory",
    )


def write_mlx(weights, folder, *, file="weights.npz", heads=True):
    """Write `config.json` and `weights.npz` or safetensors, as mlx-community publishes them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = asdict(weights.dims) | {"model_type": "whisper"}
    if weights.quantization:
        config["quantization"] = weights.quantization
    arrays = dict(weights.arrays)
    if heads:
        arrays["alignment_heads"] = mx.array(weights.alignment_heads)
    save = mx.savez if file.endswith(".npz") else mx.save_safetensors
    save(str(folder / file), **arrays) if save is mx.savez else save(str(folder / file), arrays)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_huggingface(weights, folder, *, shards=1, prefix="model.", positions=True):
    """Write what transformers writes for WhisperForConditionalGeneration, whole or in shards."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{prefix}{huggingface_name(n)}": a for n, a in weights.arrays.items()}
    for conv in ("conv1", "conv2"):
        name = f"{prefix}encoder.{conv}.weight"
        tensors[name] = mx.contiguous(tensors[name].swapaxes(1, 2))
    dims = weights.dims
    if positions:
        kind = weights.arrays["decoder.positional_embedding"].dtype
        encoded = mx.array(sinusoids(dims.n_audio_ctx, dims.n_audio_state)).astype(kind)
        tensors[f"{prefix}encoder.embed_positions.weight"] = encoded
    _write_shards(tensors, folder, shards)
    (folder / "config.json").write_text(json.dumps(huggingface_config(dims)))
    generation = {"alignment_heads": weights.alignment_heads.tolist()}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def huggingface_name(name):
    """Return transformers' name of a parameter."""
    names = {
        "decoder.token_embedding.weight": "decoder.embed_tokens.weight",
        "decoder.positional_embedding": "decoder.embed_positions.weight",
    }
    if name in names:
        return names[name]
    side, *rest, kind = name.split(".")
    if rest[0] == "blocks":
        return f"{side}.layers.{rest[1]}.{HF_LAYER['.'.join(rest[2:])]}.{kind}"
    return f"{side}.{'layer_norm' if rest[0] in {'ln', 'ln_post'} else rest[0]}.{kind}"


def huggingface_config(dims):
    """Return the part of transformers' config.json that describes the network."""
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "activation_function": "gelu",
        "scale_embedding": False,
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "d_model": dims.n_audio_state,
        "encoder_attention_heads": dims.n_audio_head,
        "encoder_layers": dims.n_audio_layer,
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "vocab_size": dims.n_vocab,
        "max_target_positions": dims.n_text_ctx,
        "decoder_attention_heads": dims.n_text_head,
        "decoder_layers": dims.n_text_layer,
        "decoder_ffn_dim": 4 * dims.n_text_state,
    }


def write_ctranslate2(weights, folder, *, parts=1, quantization=None):
    """Write `model.bin`, whole or in parts, and `config.json`, as faster-whisper users have them.

    `quantization` is None, or int8: weights become rows of int8, each with a scale.
    """
    folder.mkdir(parents=True, exist_ok=True)
    variables = ctranslate2_variables(weights, quantization)
    data = ctranslate2_bytes(variables, {"decoder/projection/weight": "decoder/embeddings/weight"})
    if parts == 1:
        (folder / "model.bin").write_bytes(data)
    else:
        # An odd cut, so that one tensor lies across two parts.
        cuts = [len(data) * part // parts | 1 for part in range(1, parts)]
        for part, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True)):
            (folder / f"model.bin.part{part + 1}").write_bytes(data[start:end])
    config = {"alignment_heads": weights.alignment_heads.tolist()}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def ctranslate2_variables(weights, quantization=None):
    """Return CTranslate2's name to array for the same model."""
    arrays = {name: np.array(array) for name, array in weights.arrays.items()}
    dims, kind = weights.dims, arrays["decoder.ln.weight"].dtype
    variables = {
        "decoder/activation": np.array(3, np.int8),
        "decoder/pre_norm": np.array(1, np.int8),
        "encoder/num_heads": np.array(dims.n_audio_head, np.int16),
        "decoder/num_heads": np.array(dims.n_text_head, np.int16),
        "decoder/embeddings/weight": arrays["decoder.token_embedding.weight"],
        "decoder/position_encodings/encodings": arrays["decoder.positional_embedding"],
        "encoder/position_encodings/encodings": sinusoids(
            dims.n_audio_ctx, dims.n_audio_state
        ).astype(kind),
        **_ct2_norm(arrays, "encoder/layer_norm", "encoder.ln_post"),
        **_ct2_norm(arrays, "decoder/layer_norm", "decoder.ln"),
    }
    for conv in ("conv1", "conv2"):
        weight = arrays[f"encoder.{conv}.weight"].swapaxes(1, 2)
        variables[f"encoder/{conv}/weight"] = np.ascontiguousarray(weight)
        variables[f"encoder/{conv}/bias"] = arrays[f"encoder.{conv}.bias"]
    for side, layers in (("encoder", dims.n_audio_layer), ("decoder", dims.n_text_layer)):
        for index in range(layers):
            variables |= _ct2_layer(arrays, side, index)
    return _quantized(variables) if quantization == "int8" else variables


def ctranslate2_bytes(variables, aliases):
    """Return the bytes of a `model.bin` of format version 6."""
    out = [struct.pack("<I", 6), _string("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, array in sorted(variables.items()):
        header = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        kind = struct.pack("<BI", CT2_TYPES[array.dtype.name], array.nbytes)
        out += [_string(name), header, kind, array.tobytes()]
    out.append(struct.pack("<I", len(aliases)))
    out += [_string(text) for pair in aliases.items() for text in pair]
    return b"".join(out)


WRITERS = {
    "mlx npz": write_mlx,
    "mlx safetensors": lambda w, f: write_mlx(w, f, file="model.safetensors"),
    "mlx weights.safetensors": lambda w, f: write_mlx(w, f, file="weights.safetensors"),
    "huggingface": write_huggingface,
    "huggingface in shards": lambda w, f: write_huggingface(w, f, shards=3),
    "huggingface without model.": lambda w, f: write_huggingface(w, f, prefix=""),
    "ctranslate2": write_ctranslate2,
    "ctranslate2 in parts": lambda w, f: write_ctranslate2(w, f, parts=11),
}


def same_arrays(left, right):
    """Return the names of parameters that differ in type, shape or any bit."""
    if left.keys() != right.keys():
        return sorted(left.keys() ^ right.keys())
    return [
        name
        for name in left
        if left[name].dtype != right[name].dtype or not mx.array_equal(left[name], right[name])
    ]


def _random(generator, name, shape):
    """Return values as large as those of a trained model, so that half floats hold them."""
    if name.endswith(("ln.weight", "ln_post.weight")):
        return 1 + 0.1 * generator.standard_normal(shape)
    scale = shape[-1] ** -0.5 if len(shape) > 1 else 0.02
    return scale * generator.standard_normal(shape, dtype=np.float32)


def _write_shards(tensors, folder, shards):
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), tensors, metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        chosen = names[shard::shards]
        mx.save_safetensors(str(folder / file), {name: tensors[name] for name in chosen})
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _ct2_norm(arrays, layer_norm, name):
    return {
        f"{layer_norm}/gamma": arrays[f"{name}.weight"],
        f"{layer_norm}/beta": arrays[f"{name}.bias"],
    }


def _ct2_layer(arrays, side, index):
    block, layer = f"{side}.blocks.{index}", f"{side}/layer_{index}"
    variables = {
        **_ct2_linear(
            arrays, f"{layer}/self_attention/linear_0", f"{block}.attn", "query key value"
        ),
        **_ct2_linear(arrays, f"{layer}/self_attention/linear_1", f"{block}.attn", "out"),
        **_ct2_norm(arrays, f"{layer}/self_attention/layer_norm", f"{block}.attn_ln"),
        **_ct2_linear(arrays, f"{layer}/ffn/linear_0", block, "mlp1"),
        **_ct2_linear(arrays, f"{layer}/ffn/linear_1", block, "mlp2"),
        **_ct2_norm(arrays, f"{layer}/ffn/layer_norm", f"{block}.mlp_ln"),
    }
    if side == "decoder":
        cross = f"{block}.cross_attn"
        variables |= _ct2_linear(arrays, f"{layer}/attention/linear_0", cross, "query")
        variables |= _ct2_linear(arrays, f"{layer}/attention/linear_1", cross, "key value")
        variables |= _ct2_linear(arrays, f"{layer}/attention/linear_2", cross, "out")
        variables |= _ct2_norm(arrays, f"{layer}/attention/layer_norm", f"{block}.cross_attn_ln")
    return variables


def _ct2_linear(arrays, linear, owner, names):
    """Stack projections; the key, which has no bias, gets zeros."""
    stems = [f"{owner}.{name}" for name in names.split()]
    weights = [arrays[f"{stem}.weight"] for stem in stems]
    biases = [
        arrays.get(f"{stem}.bias", np.zeros(len(weight), weight.dtype))
        for stem, weight in zip(stems, weights, strict=True)
    ]
    return {f"{linear}/weight": np.concatenate(weights), f"{linear}/bias": np.concatenate(biases)}


def _quantized(variables):
    packed = dict(variables)
    for name, array in variables.items():
        if array.ndim > 1 and name.endswith("/weight"):
            rows = array.astype(np.float32).reshape(len(array), -1)
            scale = 127 / np.abs(rows).max(axis=1)
            packed[name] = np.rint(rows * scale[:, None]).astype(np.int8).reshape(array.shape)
            packed[f"{name}_scale"] = scale.astype(np.float32)
    return packed


def _string(text):
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data
