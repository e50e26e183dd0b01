"""Small random Parakeet models, and writers that lay one out as each published layout.

Nothing here uses the readers under test: the writers follow the formats' own descriptions.
"""

import io
import json
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict

import mlx.core as mx
import numpy as np
import yaml

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
TORCH_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


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


class _Global:
    """Pickles as a name of torch's, without torch."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Storage:
    def __init__(self, kind, key, count):
        self.kind, self.key, self.count = kind, key, count


class _Rebuilt:
    """Pickles as a call of `torch._utils._rebuild_tensor_v2`."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())


class _TorchPickler(pickle._Pickler):
    def persistent_id(self, obj):
        if isinstance(obj, _Storage):
            return ("storage", _Global("torch", obj.kind), obj.key, "cpu", obj.count)
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            return
        if isinstance(obj, _Rebuilt):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
            return
        super().save(obj, save_persistent_id)


def torch_checkpoint(tensors):
    """Return what torch.save writes of a state dict of NumPy arrays."""
    views, storages = OrderedDict(), {}
    for index, (name, array) in enumerate(tensors.items()):
        kind = TORCH_STORAGES[array.dtype.name]
        strides = tuple(stride // array.itemsize for stride in array.strides)
        views[name] = _Rebuilt(_Storage(kind, str(index), array.size), 0, array.shape, strides)
        storages[str(index)] = array.tobytes(order="A")
    pickled = io.BytesIO()
    _TorchPickler(pickled, protocol=2).dump(views)
    return checkpoint_zip(pickled.getvalue(), storages)


def checkpoint_zip(pickled, storages):
    """Return the ZIP archive of a checkpoint."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", "3\n")
    return data.getvalue()


def nemo_config(weights):
    """Return NeMo's configuration, with what it says beside the network left in."""
    config = weights.config
    features, encoder, head = config.features, config.encoder, config.transducer
    modules, listed = "nemo.collections.asr.modules", list(weights.vocabulary.pieces)
    found = {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": features.window_length / 16000,
            "window_stride": features.hop_length / 16000,
            "window": "hann",
            "features": features.n_mels,
            "n_fft": features.n_fft,
            "frame_splicing": 1,
            "dither": 1e-05,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": f"{modules}.ConformerEncoder",
            "feat_in": encoder.n_mels,
            "feat_out": -1,
            "n_layers": encoder.num_layers,
            "d_model": encoder.width,
            "use_bias": encoder.has_bias,
            "subsampling": "dw_striding",
            "subsampling_factor": encoder.subsampling_factor,
            "subsampling_conv_channels": encoder.subsampling_channels,
            "causal_downsampling": False,
            "reduction": None,
            "ff_expansion_factor": encoder.feed_forward_width // encoder.width,
            "self_attention_model": "rel_pos",
            "n_heads": encoder.num_heads,
            "att_context_size": [-1, -1],
            "xscaling": encoder.scales_input,
            "untie_biases": True,
            "pos_emb_max_len": encoder.max_frames,
            "conv_kernel_size": encoder.kernel_size,
            "conv_norm_type": "batch_norm",
            "dropout": 0.1,
        },
    }
    if head is None:
        found["decoder"] = {
            "_target_": f"{modules}.ConvASRDecoder",
            "feat_in": encoder.width,
            "num_classes": config.num_labels,
            "vocabulary": listed,
        }
        return found
    return found | {
        "model_defaults": {"tdt_durations": list(head.durations)},
        "decoder": {
            "_target_": f"{modules}.RNNTDecoder",
            "blank_as_pad": True,
            "vocab_size": config.num_labels,
            "prednet": {
                "pred_hidden": head.predictor_width,
                "pred_rnn_layers": head.predictor_layers,
                "dropout": 0.2,
            },
        },
        "joint": {
            "_target_": f"{modules}.RNNTJoint",
            "num_extra_outputs": len(head.durations),
            "num_classes": config.num_labels,
            "vocabulary": listed,
            "jointnet": {
                "joint_hidden": head.joint_width,
                "activation": "relu",
                "encoder_hidden": encoder.width,
                "pred_hidden": head.predictor_width,
            },
        },
        "decoding": {
            "strategy": "greedy_batch",
            "model_type": "tdt",
            "durations": list(head.durations),
            "greedy": {"max_symbols": head.max_symbols},
        },
    }


def transformers_config(config):
    """Return transformers' `config.json`; its transducers have one width for both networks."""
    encoder, head = config.encoder, config.transducer
    found = {
        "vocab_size": config.num_labels + 1,
        "encoder_config": {
            "model_type": "parakeet_encoder",
            "hidden_act": "silu",
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.num_layers,
            "num_attention_heads": encoder.num_heads,
            "intermediate_size": encoder.feed_forward_width,
            "attention_bias": encoder.has_bias,
            "convolution_bias": encoder.has_conv_bias,
            "conv_kernel_size": encoder.kernel_size,
            "subsampling_factor": encoder.subsampling_factor,
            "subsampling_conv_channels": encoder.subsampling_channels,
            "subsampling_conv_kernel_size": 3,
            "subsampling_conv_stride": 2,
            "num_mel_bins": encoder.n_mels,
            "scale_input": encoder.scales_input,
            "max_position_embeddings": encoder.max_frames,
        },
    }
    if head is None:
        return found | {"model_type": "parakeet_ctc", "pad_token_id": config.blank}
    return found | {
        "model_type": "parakeet_tdt",
        "blank_token_id": config.blank,
        "hidden_act": "relu",
        "decoder_hidden_size": head.predictor_width,
        "num_decoder_layers": head.predictor_layers,
        "durations": list(head.durations),
        "max_symbols_per_step": head.max_symbols,
    }


def feature_extractor(config):
    """Return transformers' `preprocessor_config.json`."""
    features = config.features
    return {
        "feature_extractor_type": "ParakeetFeatureExtractor",
        "sampling_rate": 16000,
        "feature_size": features.n_mels,
        "hop_length": features.hop_length,
        "n_fft": features.n_fft,
        "win_length": features.window_length,
        "preemphasis": features.preemphasis,
        "padding_value": 0.0,
    }


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
