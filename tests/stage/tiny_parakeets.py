"""Small random Parakeet models, and writers that lay one out as each published layout.

Nothing here uses the readers under test: the writers follow the formats' own descriptions.
"""

import io
import json
import re
import tarfile

import mlx.core as mx
import numpy as np
import yaml

from tests.stage.parakeet_configs import feature_extractor, nemo_config, transformers_config
from tests.stage.torch_checkpoints import torch_checkpoint
from worker.models.parakeet.config import (
    Config,
    EncoderConfig,
    FeatureConfig,
    TransducerConfig,
    VadConfig,
)
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.parakeet.weights.parameters import Weights, parameter_shapes

HF_PARTS = {
    "encoder.pre_encode.conv.": "encoder.subsampling.layers.",
    "encoder.pre_encode.out.": "encoder.subsampling.linear.",
    "self_attn.linear_q.": "self_attn.q_proj.",
    "self_attn.linear_k.": "self_attn.k_proj.",
    "self_attn.linear_v.": "self_attn.v_proj.",
    "self_attn.linear_out.": "self_attn.o_proj.",
    "self_attn.linear_pos.": "self_attn.relative_k_proj.",
    "self_attn.pos_bias_": "self_attn.bias_",
    "conv.batch_norm.": "conv.norm.",
    "joint.enc.": "encoder_projector.",
    "joint.pred.": "decoder.decoder_projector.",
    "joint.joint_net.2.": "joint.head.",
    "decoder.prediction.embed.": "decoder.embedding.",
    "decoder.prediction.dec_rnn.lstm.": "decoder.lstm.",
    "decoder.decoder_layers.0.": "ctc_head.",
}


def tiny_config(*, ctc=False, vad=False, num_labels=40, bias=False, n_mels=80, max_symbols=10):
    """Return sizes of a model small enough for a test."""
    return Config(
        features=FeatureConfig(
            n_fft=512,
            window_length=400,
            hop_length=160,
            n_mels=n_mels,
            preemphasis=0.97,
            normalizes=True,
        ),
        encoder=EncoderConfig(
            n_mels=n_mels,
            width=64,
            num_layers=2,
            num_heads=4,
            feed_forward_width=128,
            kernel_size=9,
            subsampling_factor=8,
            subsampling_channels=16,
            has_bias=bias,
            has_conv_bias=bias,
            scales_input=bias,
            max_frames=5000,
        ),
        num_labels=num_labels,
        transducer=None
        if ctc
        else TransducerConfig(
            predictor_width=64,
            predictor_layers=2,
            joint_width=64,
            durations=(0, 1, 2, 3, 4),
            max_symbols=max_symbols,
        ),
        vad=VadConfig(width=32, kernel_size=5) if vad else None,
    )


def large_config(num_labels=8192):
    """Return the sizes of parakeet-tdt-0.6b-v3."""
    small = tiny_config()
    return Config(
        features=FeatureConfig(512, 400, 160, 128, 0.97, normalizes=True),
        encoder=EncoderConfig(
            n_mels=128,
            width=1024,
            num_layers=24,
            num_heads=8,
            feed_forward_width=4096,
            kernel_size=9,
            subsampling_factor=8,
            subsampling_channels=256,
            has_bias=False,
            has_conv_bias=False,
            scales_input=False,
            max_frames=5000,
        ),
        num_labels=num_labels,
        transducer=TransducerConfig(640, 2, 640, small.transducer.durations, 10),
    )


def random_parakeet(config, seed=0, dtype=mx.float32):
    """Return random `Weights`: layers that keep their input's spread, blanks about every other step."""
    generator = np.random.default_rng(seed)
    arrays = {
        name: mx.array(_random(generator, name, shape)).astype(dtype)
        for name, shape in parameter_shapes(config).items()
    }
    if config.transducer is not None:
        # What random layers say hardly varies in time: let the encoder count for more.
        arrays["joint.enc.weight"] = arrays["joint.enc.weight"] * 4
        embed = np.array(arrays["decoder.prediction.embed.weight"].astype(mx.float32))
        embed[config.blank] = 0.0
        arrays["decoder.prediction.embed.weight"] = mx.array(embed).astype(dtype)
        out = np.array(arrays["joint.joint_net.2.bias"].astype(mx.float32))
        out[config.blank] += 2.0
        arrays["joint.joint_net.2.bias"] = mx.array(out).astype(dtype)
    return Weights(
        config=config,
        vocabulary=Vocabulary(pieces(config.num_labels)),
        arrays=arrays,
        quantization=None,
        name="tiny-random",
        revision=f"seed-{seed}",
        source="memory",
    )


def pieces(num_labels):
    """Return a made-up vocabulary; the first piece is no text."""
    return ("<unk>", *(f"{'▁' if index % 2 else ''}p{index}" for index in range(1, num_labels)))


def _random(generator, name, shape):
    noise = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return np.abs(noise) + np.float32(0.5)
    if "norm" in name and name.endswith("weight"):
        return 1 + noise * np.float32(0.1)
    if len(shape) == 1 or name.endswith(("running_mean", "_u", "_v")):
        return noise * np.float32(0.1)
    if name.endswith("embed.weight"):
        return noise * 2
    return noise * np.float32(1.3 * np.prod(shape[1:]) ** -0.5)


def write_mlx(weights, folder):
    """Write NeMo's configuration as JSON and tensors in MLX's layout, as mlx-community does."""
    folder.mkdir(parents=True, exist_ok=True)
    config = nemo_config(weights)
    if weights.quantization is not None:
        config["quantization"] = weights.quantization
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights.arrays)
    return folder


def write_transformers(weights, folder):
    """Write what transformers writes for ParakeetForTDT and ParakeetForCTC."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, array in torch_arrays(weights).items():
        renamed = name
        for ours, theirs in HF_PARTS.items():
            renamed = renamed.replace(ours, theirs)
        tensors[renamed] = array
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    (folder / "config.json").write_text(json.dumps(transformers_config(weights.config)))
    (folder / "preprocessor_config.json").write_text(json.dumps(feature_extractor(weights.config)))
    vocab = [[piece, -float(index)] for index, piece in enumerate(weights.vocabulary.pieces)]
    blank = {"id": weights.config.blank, "content": "<blank>", "special": True}
    unknown = {"id": 0, "content": "<unk>", "special": True}
    parsed = {"model": {"type": "Unigram", "vocab": vocab}, "added_tokens": [unknown, blank]}
    (folder / "tokenizer.json").write_text(json.dumps(parsed))
    return folder


def write_nemo(weights, folder):
    """Write a `.nemo` archive: a tar of YAML and of a checkpoint as torch.save writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.nemo"
    tensors = {name: np.array(array) for name, array in torch_arrays(weights).items()}
    tensors["preprocessor.featurizer.window"] = np.hanning(400).astype(np.float32)
    members = {
        "./model_config.yaml": yaml.safe_dump(nemo_config(weights), sort_keys=False).encode(),
        "./model_weights.ckpt": torch_checkpoint(tensors),
    }
    write_tar(path, members)
    return path


WRITERS = {"mlx": write_mlx, "transformers": write_transformers, "nemo": write_nemo}


def write_tar(path, members, mode="w:"):
    """Write files of a tar, by name."""
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def torch_arrays(weights):
    """Return the parameters under NeMo's names in PyTorch's layout."""
    tensors = {}
    for name, array in weights.arrays.items():
        lstm = re.fullmatch(r"(.*\.lstm)\.(\d+)\.(Wx|Wh|bias)", name)
        if lstm is None:
            tensors[name] = _channels_first(array)
        elif lstm[3] == "bias":
            # Halves are added without rounding.
            for kind in ("ih", "hh"):
                tensors[f"{lstm[1]}.bias_{kind}_l{lstm[2]}"] = array * 0.5
        else:
            kind = {"Wx": "ih", "Wh": "hh"}[lstm[3]]
            tensors[f"{lstm[1]}.weight_{kind}_l{lstm[2]}"] = array
    for name in list(tensors):
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            tensors[counter] = mx.array(7, mx.int64)
    return tensors


def _channels_first(array):
    if array.ndim == 3:
        return mx.contiguous(array.swapaxes(1, 2))
    return mx.contiguous(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array


def quantized(weights, bits, group_size=32):
    """Return weights whose linear layers and embedding are packed, as `mlx.nn.quantize` does."""
    arrays = {}
    for name, array in weights.arrays.items():
        is_linear = array.ndim == 2 and name.endswith(".weight")
        if not is_linear or array.shape[-1] % group_size:
            arrays[name] = array
            continue
        stem = name.removesuffix(".weight")
        packed, scales, biases = mx.quantize(array, group_size=group_size, bits=bits)
        arrays |= {name: packed, f"{stem}.scales": scales, f"{stem}.biases": biases}
    quantization = {"group_size": group_size, "bits": bits}
    return Weights(**{**vars(weights), "arrays": arrays, "quantization": quantization})


def speech_like(seconds, seed=0):
    """Return a gliding tone that comes and goes, with noise; float32 at 16 kHz."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.sin(2 * np.pi * (200 + 40 * seed + 50 * np.sin(3 * time)) * time)
    envelope = 0.3 * (1 + np.sin((5 + seed % 5) * time)) / 2
    noise = 0.02 * generator.standard_normal(len(time))
    return (tone * envelope + noise).astype(np.float32)
