"""Random Parakeet models and the pieces they hear, as formulas: numpy only, so that tests may use them.

Names, shapes and layout of the tensors are those of transformers' `ParakeetForTDT` and
`ParakeetForCTC`, whose `state_dict` make_parakeet.py holds against them.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.data.recipes import assemble, rough_noise, synthetic_audio

# Noise is uniform in [-0.5, 0.5): times this it has variance 1.
UNIT = 12**0.5
# A predictor that settles on a state would repeat one token for ever.
GAINS = {"lstm": 3.0, "head": 3.0, "ctc_head": 3.0, "decoder_projector": 2.0}
# Numbers drawn at a time: bounds the memory of the 0.6b's largest tensor.
DRAWN = 1 << 20

Config = dict[str, Any]
Shape = tuple[int, ...]


def encoder_shapes(encoder: Config) -> Iterator[tuple[str, Shape]]:
    """Yield name and shape of each tensor of the encoder of a Hugging Face configuration."""
    channels, width = encoder["subsampling_conv_channels"], encoder["hidden_size"]
    kernel = encoder["subsampling_conv_kernel_size"]
    stages = encoder["subsampling_factor"].bit_length() - 1
    for index in range(stages):
        first = 3 * index - 1 if index else 0
        yield from _affine(f"subsampling.layers.{first}", (channels, 1, kernel, kernel))
        if index:
            yield from _affine(f"subsampling.layers.{first + 1}", (channels, channels, 1, 1))
    flat = channels * (encoder["num_mel_bins"] >> stages)
    yield from _affine("subsampling.linear", (width, flat))
    for layer in range(encoder["num_hidden_layers"]):
        for name, shape in _layer_shapes(encoder):
            yield f"layers.{layer}.{name}", shape


def _layer_shapes(encoder: Config) -> Iterator[tuple[str, Shape]]:
    width, inner, heads = (
        encoder[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    has_bias, has_conv_bias = encoder["attention_bias"], encoder["convolution_bias"]
    for name in ("feed_forward1", "feed_forward2"):
        yield from _affine(f"{name}.linear1", (inner, width), has_bias=has_bias)
        yield from _affine(f"{name}.linear2", (width, inner), has_bias=has_bias)
    for name in "qkvo":
        yield from _affine(f"self_attn.{name}_proj", (width, width), has_bias=has_bias)
    yield "self_attn.relative_k_proj.weight", (width, width)
    yield "self_attn.bias_u", (heads, width // heads)
    yield "self_attn.bias_v", (heads, width // heads)
    yield from _affine("conv.pointwise_conv1", (2 * width, width, 1), has_bias=has_conv_bias)
    depthwise = (width, 1, encoder["conv_kernel_size"])
    yield from _affine("conv.depthwise_conv", depthwise, has_bias=has_conv_bias)
    yield from _affine("conv.pointwise_conv2", (width, width, 1), has_bias=has_conv_bias)
    for name in ("weight", "bias", "running_mean", "running_var"):
        yield f"conv.norm.{name}", (width,)
    for name in ("feed_forward1", "self_att", "conv", "feed_forward2", "out"):
        yield from _affine(f"norm_{name}", (width,))


def _affine(name: str, shape: Shape, *, has_bias: bool = True) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    if has_bias:
        yield f"{name}.bias", shape[:1]


def tensor_shapes(config: Config) -> dict[str, Shape]:
    """Return the shape of each tensor of a model, by name."""
    encoder = config["encoder_config"]
    shapes = {f"encoder.{name}": shape for name, shape in encoder_shapes(encoder)}
    if config["model_type"] == "parakeet_ctc":
        return shapes | dict(_affine("ctc_head", (config["vocab_size"], encoder["hidden_size"], 1)))
    hidden, vocab = config["decoder_hidden_size"], config["vocab_size"]
    shapes |= _affine("encoder_projector", (hidden, encoder["hidden_size"]))
    shapes["decoder.embedding.weight"] = (vocab, hidden)
    for layer in range(config["num_decoder_layers"]):
        for name in ("ih", "hh"):
            shapes[f"decoder.lstm.weight_{name}_l{layer}"] = (4 * hidden, hidden)
            shapes[f"decoder.lstm.bias_{name}_l{layer}"] = (4 * hidden,)
    shapes |= _affine("decoder.decoder_projector", (hidden, hidden))
    return shapes | dict(_affine("joint.head", (vocab + len(config["durations"]), hidden)))


def weights(config: Config, seed: int, tuned: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and float32 values of each tensor.

    What random layers say hardly varies in time, so the last ones are `tuned`: `gain` multiplies the
    weights that read the encoder, `center` is their bias, `blank` and `durations` are added to the
    bias of the head. The blank's embedding is zero, as in every published model.
    """
    blank, is_ctc = blank_of(config), config["model_type"] == "parakeet_ctc"
    reader = "ctc_head" if is_ctc else "encoder_projector"
    for name, shape in tensor_shapes(config).items():
        array = _drawn(name, shape, seed)
        if name == f"{reader}.weight":
            array *= np.float32(tuned["gain"])
        elif name == f"{reader}.bias":
            array[:] = np.asarray(tuned["center"], np.float32)
        elif name == "decoder.embedding.weight":
            array[blank] = 0
        if name in ("joint.head.bias", "ctc_head.bias"):
            array[blank] += np.float32(tuned["blank"])
        if name == "joint.head.bias":
            array[: config["vocab_size"]] += np.float32(tuned["tokens"])
            array[config["vocab_size"] :] += np.asarray(tuned["durations"], np.float32)
        yield name, array


def blank_of(config: Config) -> int:
    """Return the id of the blank: CTC models call it their padding."""
    is_ctc = config["model_type"] == "parakeet_ctc"
    return int(config["pad_token_id" if is_ctc else "blank_token_id"])


def spread(name: str, shape: Shape) -> tuple[float, float]:
    """Return what noise in [-0.5, 0.5) is multiplied by, and what is added to it, for a tensor.

    Each layer's output varies about as much as its input.
    """
    leaf = name.rsplit(".", 1)[-1]
    if "norm" in name:
        return 0.4, 1.0 if leaf in ("weight", "running_var") else 0.0
    if name == "decoder.embedding.weight":
        return 2 * UNIT, 0.0
    if leaf in ("bias_u", "bias_v"):
        return 0.5 * UNIT, 0.0
    if leaf.startswith("weight"):
        gain = GAINS.get(name.split(".")[-2], 1.0)
        return gain * UNIT / int(np.prod(shape[1:])) ** 0.5, 0.0
    return 0.1, 0.0


def _drawn(name: str, shape: Shape, seed: int) -> np.ndarray:
    scale, offset = spread(name, shape)
    first = zlib.crc32(name.encode()) % 65_536 + 65_536 * seed
    flat = np.empty(int(np.prod(shape)), np.float32)
    for index, start in enumerate(range(0, len(flat), DRAWN)):
        part = flat[start : start + DRAWN]
        part[:] = rough_noise(len(part), first + 7919 * index) * scale + offset
    return flat.reshape(shape)


def piece(spec: dict[str, Any], recording: np.ndarray) -> np.ndarray:
    """Return 16 kHz float32 samples: a cut of a recording, synthetic audio, or noise.

    The specs are `recipes.assemble`'s without a path, and {synthetic, num_samples}.
    """
    if "synthetic" in spec:
        return synthetic_audio(spec["synthetic"], spec["num_samples"])
    return assemble([spec | ({"path": ""} if "start" in spec else {})], lambda _: recording)
