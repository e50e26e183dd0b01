"""A Parakeet model's parameters: names, shapes and checks, the same for all layouts.

Names and layouts are those of NeMo's models in MLX folders: linear weights `(out, in)`, convolutions
`(out, width, in)` or `(out, height, width, in)`, LSTM layers `Wx`, `Wh` and one `bias`. A voice
activity head has the names of Parakeet Ultra.
"""

from dataclasses import dataclass, field, replace

import mlx.core as mx

from worker.models import tensor_checks
from worker.models.parakeet.config import Config, EncoderConfig, TransducerConfig, VadConfig
from worker.models.parakeet.vocabulary import Vocabulary

Shapes = dict[str, tuple[int, ...]]

KERNEL = 3  # of the subsampling, each side
# What stays in float32 if it is stored so, whatever the encoder computes in.
_PRECISE = ("decoder.", "joint.pred.", "joint.joint_net.")
_FOLDED = (".batch_norm.", ".depthwise_conv.")


@dataclass(frozen=True)
class Weights:
    """A loaded and checked model.

    Attributes:
        config: What its configuration says.
        vocabulary: Its tokens.
        arrays: Parameter name to array; exactly the names of `parameter_shapes`, and for quantized
            ones `.scales` and `.biases` as well.
        quantization: `{"group_size": ..., "bits": ...}`, or None.
        name: What was asked for.
        revision: Hub commit, or hash of the content.
        source: Folder or file that it was read from.
    """

    config: Config
    vocabulary: Vocabulary = field(repr=False)
    arrays: dict[str, mx.array] = field(repr=False)
    quantization: dict[str, int] | None
    name: str
    revision: str
    source: str


def parameter_shapes(config: Config) -> Shapes:
    """Return the name and unquantized shape of every parameter."""
    encoder = config.encoder
    shapes = _subsampling(encoder)
    for index in range(encoder.num_layers):
        shapes |= _block(f"encoder.layers.{index}", encoder)
    if config.vad is not None:
        shapes |= _vad_head(config.vad, encoder.width)
    outputs = config.num_labels + 1
    if config.transducer is None:
        return shapes | {
            "decoder.decoder_layers.0.weight": (outputs, 1, encoder.width),
            "decoder.decoder_layers.0.bias": (outputs,),
        }
    return shapes | _transducer(config.transducer, outputs, encoder.width)


def is_quantizable(name: str) -> bool:
    """Return whether a parameter is a linear weight or the embedding, which `nn.quantize` packs."""
    return (
        name.endswith(("_pos.weight", ".embed.weight"))
        or any(part in name for part in (".linear", ".pre_encode.out.", "joint."))
    ) and name.endswith(".weight")


def checked_arrays(
    arrays: dict[str, mx.array],
    config: Config,
    quantization: dict[str, int] | None,
    source: str,
    dtype: mx.Dtype | None,
) -> dict[str, mx.array]:
    """Return the arrays, evaluated one by one, after checking each against the configuration.

    Args:
        arrays: Every tensor of the model, perhaps not read yet; empty afterwards.
        config: Sizes that the shapes must agree with.
        quantization: Group size and bits of the tensors that have `.scales`; None if none has.
        source: Named in errors.
        dtype: Type of what the encoder multiplies with; None keeps each tensor's own.

    Raises:
        InvalidModel: a tensor is missing, unknown, of another shape or type, unreadable, or
            holds NaN or infinity.
    """
    shapes = parameter_shapes(config)
    stored = tensor_checks.stored_shapes(shapes, arrays, quantization, is_quantizable, source)

    def wanted(name: str) -> mx.Dtype | None:
        is_precise = name.startswith(_PRECISE) or any(part in name for part in _FOLDED)
        return None if is_precise else dtype

    return tensor_checks.checked_arrays(arrays, stored, source, "Parakeet", wanted)


def dequantized(weights: Weights) -> Weights:
    """Return the weights with packed tensors unpacked to float32; others stay as they are."""
    if weights.quantization is None:
        return weights
    arrays = dict(weights.arrays)
    for name in [name for name, array in arrays.items() if array.dtype == mx.uint32]:
        unpack(arrays, name, weights.quantization)
    return replace(weights, arrays=arrays, quantization=None)


def unpack(arrays: dict[str, mx.array], name: str, quantization: dict[str, int]) -> None:
    """Put one packed tensor's float32 numbers in the place of its three arrays."""
    stem = name.removesuffix(".weight")
    scales, biases = arrays.pop(f"{stem}.scales"), arrays.pop(f"{stem}.biases")
    # In float32, so that the product is rounded once.
    arrays[name] = mx.dequantize(
        arrays[name],
        scales.astype(mx.float32),
        biases.astype(mx.float32),
        group_size=quantization["group_size"],
        bits=quantization["bits"],
    )
    mx.eval(arrays[name])


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (outputs, inputs)}
    return shapes | {f"{name}.bias": (outputs,)} if bias else shapes


def _convolution(name: str, *shape: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": shape}
    return shapes | {f"{name}.bias": shape[:1]} if bias else shapes


def _subsampling(config: EncoderConfig) -> Shapes:
    channels, name = config.subsampling_channels, "encoder.pre_encode"
    shapes = _convolution(f"{name}.conv.0", channels, KERNEL, KERNEL, 1)
    # Each further stage is a depthwise and a pointwise convolution, and an activation.
    for stage in range(config.num_strided - 1):
        at = 2 + 3 * stage
        shapes |= _convolution(f"{name}.conv.{at}", channels, KERNEL, KERNEL, 1)
        shapes |= _convolution(f"{name}.conv.{at + 1}", channels, 1, 1, channels)
    return shapes | _linear(f"{name}.out", config.width, channels * config.subsampled_bins)


def _block(name: str, config: EncoderConfig) -> Shapes:
    width, wide, bias = config.width, config.feed_forward_width, config.has_bias
    shapes: Shapes = {}
    for norm in ("feed_forward1", "self_att", "conv", "feed_forward2", "out"):
        shapes |= {f"{name}.norm_{norm}.{kind}": (width,) for kind in ("weight", "bias")}
    for layer in ("feed_forward1", "feed_forward2"):
        shapes |= _linear(f"{name}.{layer}.linear1", wide, width, bias=bias)
        shapes |= _linear(f"{name}.{layer}.linear2", width, wide, bias=bias)
    for projection in ("q", "k", "v", "out"):
        shapes |= _linear(f"{name}.self_attn.linear_{projection}", width, width, bias=bias)
    shapes |= _linear(f"{name}.self_attn.linear_pos", width, width, bias=False)
    heads = (config.num_heads, config.head_width)
    shapes |= {f"{name}.self_attn.pos_bias_{letter}": heads for letter in "uv"}
    conv, bias = f"{name}.conv", config.has_conv_bias
    shapes |= _convolution(f"{conv}.pointwise_conv1", 2 * width, 1, width, bias=bias)
    shapes |= _convolution(f"{conv}.depthwise_conv", width, config.kernel_size, 1, bias=bias)
    shapes |= _convolution(f"{conv}.pointwise_conv2", width, 1, width, bias=bias)
    statistics = ("weight", "bias", "running_mean", "running_var")
    return shapes | {f"{conv}.batch_norm.{kind}": (width,) for kind in statistics}


def _transducer(config: TransducerConfig, outputs: int, encoder_width: int) -> Shapes:
    width, joint = config.predictor_width, config.joint_width
    shapes: Shapes = {"decoder.prediction.embed.weight": (outputs, width)}
    for index in range(config.predictor_layers):
        layer = f"decoder.prediction.dec_rnn.lstm.{index}"
        shapes |= {f"{layer}.{kind}": (4 * width, width) for kind in ("Wx", "Wh")}
        shapes[f"{layer}.bias"] = (4 * width,)
    shapes |= _linear("joint.enc", joint, encoder_width) | _linear("joint.pred", joint, width)
    return shapes | _linear("joint.joint_net.2", outputs + len(config.durations), joint)


def _vad_head(config: VadConfig, encoder_width: int) -> Shapes:
    return (
        _convolution("vad_head.proj", config.width, 1, encoder_width)
        | _convolution("vad_head.ctx", config.width, config.kernel_size, config.width)
        | _convolution("vad_head.out", 1, 1, config.width)
    )
