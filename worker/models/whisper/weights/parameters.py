"""A Whisper model's parameters: names, shapes and checks, the same for all folder formats.

Names and layouts are those of the MLX folders: `encoder.blocks.0.attn.query.weight`, linear
weights `(out, in)`, convolutions `(out, width, in)`. Quantized tensors are three:
`.weight` (packed uint32), `.scales` and `.biases`. The encoder's positions are not stored: they
are sinusoids.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from producer.errors import InvalidModel
from worker.models import tensor_checks
from worker.models.tensor_checks import stored_shapes

_CONV_WIDTH = 3
_N_VOCABS = (51864, 51865, 51866)
_N_MELS = (80, 128)
_N_AUDIO_CTX = 1500  # 30 s of mel frames, halved by the second convolution
# Far above large-v3's 5120: a damaged header must not cause an allocation of terabytes.
_MAX_DIMENSION = 65536
_SINUSOID_TOLERANCE = 2e-3  # bfloat16 rounds values below 1 by up to 2**-9


@dataclass(frozen=True)
class Dimensions:
    """The sizes that make one Whisper model differ from another."""

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    @classmethod
    def checked(cls, sizes: dict[str, Any], source: str) -> Self:
        """Return the dimensions among a config's values.

        Raises:
            InvalidModel: a size is missing, no number, or not one of a Whisper model.
        """
        names = [field.name for field in fields(cls)]
        for name in names:
            _check_size(name, sizes.get(name), source)
        dims = cls(**{name: sizes[name] for name in names})
        dims._check(source)
        return dims

    def _check(self, source: str) -> None:
        limits: tuple[tuple[str, bool, str, object], ...] = (
            ("n_mels", self.n_mels in _N_MELS, "must be 80 or 128", self.n_mels),
            (
                "n_audio_ctx",
                self.n_audio_ctx == _N_AUDIO_CTX,
                f"must be {_N_AUDIO_CTX}",
                self.n_audio_ctx,
            ),
            (
                "n_vocab",
                self.n_vocab in _N_VOCABS,
                f"must be one of {', '.join(map(str, _N_VOCABS))}",
                self.n_vocab,
            ),
            (
                "n_audio_state",
                self.n_audio_state == self.n_text_state,
                f"must equal n_text_state, {self.n_text_state}",
                self.n_audio_state,
            ),
            (
                "n_audio_head",
                self.n_audio_state % (2 * self.n_audio_head) == 0,
                f"must divide n_audio_state, {self.n_audio_state}, into even heads",
                self.n_audio_head,
            ),
            (
                "n_text_head",
                self.n_text_state % (2 * self.n_text_head) == 0,
                f"must divide n_text_state, {self.n_text_state}, into even heads",
                self.n_text_head,
            ),
        )
        for name, holds, constraint, value in limits:
            if not holds:
                raise InvalidModel(f"{source}: {name}", constraint, value)


@dataclass(frozen=True)
class Weights:
    """A loaded and checked model.

    Attributes:
        dims: Sizes.
        arrays: Parameter name to array; exactly the names of `parameter_shapes`, and for
            quantized ones `.scales` and `.biases` as well.
        alignment_heads: `(k, 2)` of decoder layer and head whose cross-attention follows time.
        quantization: `{"group_size": ..., "bits": ...}`, or None.
        name: What was asked for.
        revision: Hub commit, or hash of the content.
        source: Folder that it was read from.
    """

    dims: Dimensions
    arrays: dict[str, mx.array]
    alignment_heads: NDArray[np.int64]
    quantization: dict[str, int] | None
    name: str
    revision: str
    source: str

    @property
    def dtype(self) -> mx.Dtype:
        """Return the type of the tensors that are not packed."""
        kinds = (array.dtype for array in self.arrays.values())
        return next(kind for kind in kinds if mx.issubdtype(kind, mx.floating))


def parameter_shapes(dims: Dimensions) -> dict[str, tuple[int, ...]]:
    """Return the name and unquantized shape of every parameter."""
    audio, text = dims.n_audio_state, dims.n_text_state
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (audio, _CONV_WIDTH, dims.n_mels),
        "encoder.conv1.bias": (audio,),
        "encoder.conv2.weight": (audio, _CONV_WIDTH, audio),
        "encoder.conv2.bias": (audio,),
        "decoder.token_embedding.weight": (dims.n_vocab, text),
        "decoder.positional_embedding": (dims.n_text_ctx, text),
    }
    shapes |= _norm("encoder.ln_post", audio) | _norm("decoder.ln", text)
    for index in range(dims.n_audio_layer):
        shapes |= _block(f"encoder.blocks.{index}", audio, ("attn",))
    for index in range(dims.n_text_layer):
        shapes |= _block(f"decoder.blocks.{index}", text, ("attn", "cross_attn"))
    return shapes


def is_quantizable(name: str) -> bool:
    """Return whether a parameter is a linear weight or the token embedding."""
    return name.endswith(".weight") and not any(
        part.startswith("conv") or part == "ln" or part.endswith("_ln") or part == "ln_post"
        for part in name.split(".")
    )


def checked_arrays(
    arrays: dict[str, mx.array],
    dims: Dimensions,
    quantization: dict[str, int] | None,
    source: str,
    dtype: mx.Dtype | None = None,
) -> dict[str, mx.array]:
    """Return the arrays, evaluated one by one, after checking each against the dimensions.

    Each array is taken out of `arrays`, so that a cast never holds two copies of the model.

    Args:
        arrays: Every tensor of the model, perhaps not read yet; empty afterwards.
        dims: Sizes that the shapes must agree with.
        quantization: Group size and bits of the tensors that have `.scales`; None if none has.
        source: Named in errors.
        dtype: Type of the result; None keeps each tensor's own.

    Raises:
        InvalidModel: a tensor is missing, unknown, of another shape or type, unreadable, or
            holds NaN or infinity.
    """
    shapes = stored_shapes(parameter_shapes(dims), arrays, quantization, is_quantizable, source)
    return tensor_checks.checked_arrays(arrays, shapes, source, "Whisper", lambda _: dtype)


def cast(weights: Weights, dtype: mx.Dtype) -> Weights:
    """Return the weights in another floating-point type; packed integers stay.

    Raises:
        InvalidModel: a value is too large for the type.
    """
    arrays = checked_arrays(
        dict(weights.arrays), weights.dims, weights.quantization, weights.source, dtype
    )
    return replace(weights, arrays=arrays)


def check_sinusoids(stored: NDArray[Any], dims: Dimensions, source: str) -> None:
    """Check stored encoder positions, `(n_audio_ctx, n_audio_state)`, against the formula.

    Raises:
        InvalidModel: the positions were trained or are damaged.
    """
    expected = sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    name = f"{source}: encoder.positional_embedding"
    if stored.shape != expected.shape:
        raise InvalidModel(name, f"must have shape {expected.shape}", stored.shape)
    difference = float(np.abs(stored.astype(np.float32) - expected).max())
    if not difference <= _SINUSOID_TOLERANCE:
        raise InvalidModel(name, "must be Whisper's sinusoids: largest difference", difference)


def sinusoids(length: int, channels: int) -> NDArray[np.float32]:
    """Return Whisper's encoder positions, `(length, channels)`: sines, then cosines.

    Wave lengths grow geometrically from 2 pi to 10000 * 2 pi (Vaswani et al., 2017).
    """
    half = channels // 2
    rates = np.exp(-np.log(10000.0) / (half - 1) * np.arange(half))
    angles = np.arange(length)[:, None] * rates[None, :]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _check_size(name: str, size: object, source: str) -> None:
    is_number = isinstance(size, int) and not isinstance(size, bool)
    if not is_number or not 1 <= int(str(size)) <= _MAX_DIMENSION:
        value = "nothing" if size is None else size
        raise InvalidModel(f"{source}: {name}", f"must be 1 to {_MAX_DIMENSION}", value)


def _norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _block(name: str, state: int, attentions: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.mlp1.weight": (4 * state, state),
        f"{name}.mlp1.bias": (4 * state,),
        f"{name}.mlp2.weight": (state, 4 * state),
        f"{name}.mlp2.bias": (state,),
    }
    shapes |= _norm(f"{name}.mlp_ln", state)
    for attention in attentions:
        for projection in ("query", "key", "value", "out"):
            shapes[f"{name}.{attention}.{projection}.weight"] = (state, state)
            if projection != "key":
                shapes[f"{name}.{attention}.{projection}.bias"] = (state,)
        shapes |= _norm(f"{name}.{attention}_ln", state)
    return shapes
