"""Published parameters as the MLX network holds them.

One array for projections of the same input, pointwise convolutions as linear layers, and the batch
norm folded into the depthwise convolution before it.
"""

import re

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.parakeet.weights.parameters import Weights, unpack

# PyTorch's and MLX's default, which no configuration of NeMo's or transformers' changes.
BATCH_NORM_EPSILON = 1e-5
_SUFFIXES = ("weight", "scales", "biases", "bias")
_STAGE = re.compile(r"encoder\.pre_encode\.conv\.(\d+)\.(weight|bias)")
_LSTM = re.compile(r"decoder\.prediction\.dec_rnn\.lstm\.(\d+)\.(Wx|Wh|bias)")
_WHOLE = {
    "decoder.prediction.embed.": "transducer.embed.",
    "decoder.decoder_layers.0.": "ctc.",
    "joint.joint_net.2.": "transducer.out.",
    "joint.": "transducer.",
}
# What computes in float32 whatever the encoder does.
_HEADS = (
    "transducer.embed.",
    "transducer.lstm.",
    "transducer.pred.",
    "transducer.out.",
    "ctc.",
)


def fused_arrays(weights: Weights, dtype: mx.Dtype) -> dict[str, mx.array]:
    """Return the network's arrays by its names: the heads in float32, all others in `dtype`.

    Raises:
        InvalidModel: of projections that are fused some are packed and some are not.
    """
    arrays = dict(weights.arrays)
    for name in [name for name, array in arrays.items() if array.dtype == mx.uint32]:
        if _renamed(name).startswith(_HEADS) and weights.quantization is not None:
            unpack(arrays, name, weights.quantization)
    for index in range(weights.config.encoder.num_layers):
        _fuse_projections(arrays, f"encoder.layers.{index}.self_attn", weights.source)
        _fold_batch_norm(arrays, f"encoder.layers.{index}.conv")
    fused = {}
    for name in list(arrays):
        renamed = _renamed(name)
        array = _as_linear(renamed, arrays.pop(name))
        wanted = mx.float32 if renamed.startswith(_HEADS) else dtype
        is_float = mx.issubdtype(array.dtype, mx.floating)
        fused[renamed] = array.astype(wanted) if is_float else array
    for kind in ("weight", "bias"):
        if (out := fused.pop(f"transducer.out.{kind}", None)) is not None:
            # Apart, so that each is reduced as it lies.
            num_tokens = weights.config.num_labels + 1
            fused[f"transducer.tokens.{kind}"] = mx.contiguous(out[:num_tokens])
            fused[f"transducer.durations.{kind}"] = mx.contiguous(out[num_tokens:])
    return fused


def _renamed(name: str) -> str:
    if stage := _STAGE.fullmatch(name):
        # 0; 2 and 3; 5 and 6: the first convolution, then depthwise and pointwise ones.
        at = int(stage[1])
        if not at:
            return f"encoder.pre_encode.first.{stage[2]}"
        kind = "depthwise" if at % 3 else "pointwise"
        return f"encoder.pre_encode.{kind}.{(at - 2) // 3}.{stage[2]}"
    if lstm := _LSTM.fullmatch(name):
        return f"transducer.lstm.{lstm[1]}.{lstm[2]}"
    for before, after in _WHOLE.items():
        if name.startswith(before):
            return name.replace(before, after, 1)
    return name


def _as_linear(name: str, array: mx.array) -> mx.array:
    """Return a pointwise convolution's weight as a linear layer's (out, in), and the first one's."""
    if name == "encoder.pre_encode.first.weight":
        # Its 3 x 3 neighbours among 4 x 4.
        array = mx.pad(array, [(0, 0), (0, 1), (0, 1), (0, 0)])
    is_pointwise = any(
        part in name for part in (".first.", "pointwise", "ctc.", "vad_head.proj", "vad_head.out")
    )
    if is_pointwise and name.endswith(".weight"):
        return array.reshape(array.shape[0], -1)
    return array


def _fuse_projections(arrays: dict[str, mx.array], path: str, source: str) -> None:
    """Put q, k and v of an attention into one array each of `_SUFFIXES`."""
    for suffix in _SUFFIXES:
        names = [f"{path}.linear_{letter}.{suffix}" for letter in "qkv"]
        held = [name for name in names if name in arrays]
        if not held:
            continue
        parts = [arrays.pop(name) for name in held]
        if len(held) < len(names) or len({part.dtype for part in parts}) > 1:
            raise InvalidModel(f"{source}: {path}", "must have q, k and v of one kind", held)
        arrays[f"{path}.qkv.{suffix}"] = mx.concatenate(parts)


def _fold_batch_norm(arrays: dict[str, mx.array], path: str) -> None:
    """Put the norm after a depthwise convolution into its weights (K, D) and bias (D,)."""
    norm = {
        kind: arrays.pop(f"{path}.batch_norm.{kind}").astype(mx.float32)
        for kind in ("weight", "bias", "running_mean", "running_var")
    }
    scale = norm["weight"] / mx.sqrt(norm["running_var"] + BATCH_NORM_EPSILON)
    weight = arrays.pop(f"{path}.depthwise_conv.weight").astype(mx.float32)
    bias = arrays.pop(f"{path}.depthwise_conv.bias", mx.zeros_like(scale)).astype(mx.float32)
    arrays[f"{path}.depthwise_weight"] = weight[..., 0].T * scale
    arrays[f"{path}.depthwise_bias"] = (bias - norm["running_mean"]) * scale + norm["bias"]
