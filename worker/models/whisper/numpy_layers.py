"""The NumPy network's layers, and how the weights of a checkpoint lie in them.

Shapes: N outputs, D width. Queries are scaled by 1 / sqrt(K) in their weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from worker.models.numpy_layers import Linear, Norm, by_columns, linear_for_few_rows
from worker.models.numpy_math import FloatArray

# By the names of `fuse_projections`.
Arrays: TypeAlias = dict[str, FloatArray]
Make: TypeAlias = Callable[[FloatArray, FloatArray], Linear]


@dataclass(frozen=True)
class Block:
    """Pre-norm self-attention and MLP; queries are scaled by their weights."""

    attn_ln: Norm
    qkv: Linear
    out: Linear
    mlp_ln: Norm
    up: Linear
    down: Linear


@dataclass(frozen=True)
class DecoderBlock(Block):
    """The same with cross-attention between them."""

    cross_attn_ln: Norm
    query: Linear
    key_value: Linear
    cross_out: Linear


def norm(arrays: Arrays, name: str) -> Norm:
    """Return a layer normalisation by its parameters' name."""
    return Norm(arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def _linear(arrays: Arrays, name: str, make: Make, scaled: float = 1.0) -> Linear:
    """Return a layer; as many rows as columns are multiplied by `scaled`: a layer's queries."""
    weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    if scaled != 1:
        scale = np.where(np.arange(len(bias)) < weight.shape[1], scaled, 1).astype(np.float32)
        weight, bias = weight * scale[:, None], bias * scale
    return make(weight, bias)


def _for_many_rows(weight: FloatArray, bias: FloatArray) -> Linear:
    return Linear(by_columns(weight), bias)


def convolution(arrays: Arrays, name: str) -> Linear:
    """Return a convolution's weight (D, 3, C) as a linear layer of three neighbours."""
    weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
    return _for_many_rows(weight.reshape(len(weight), -1), bias)


def encoder_block(arrays: Arrays, path: str, num_heads: int) -> Block:
    """Return a block whose layers read many rows."""
    return Block(**_block(arrays, path, num_heads, _for_many_rows))


def _block(arrays: Arrays, path: str, num_heads: int, make: Make) -> dict[str, Any]:
    """Return the fields of a `Block`."""
    width = len(arrays[f"{path}.attn_ln.bias"])
    return {
        "attn_ln": norm(arrays, f"{path}.attn_ln"),
        "qkv": _linear(arrays, f"{path}.attn.qkv", make, (width // num_heads) ** -0.5),
        "out": _linear(arrays, f"{path}.attn.out", make),
        "mlp_ln": norm(arrays, f"{path}.mlp_ln"),
        "up": _linear(arrays, f"{path}.mlp.up", make),
        "down": _linear(arrays, f"{path}.mlp.down", make),
    }


def decoder_block(arrays: Arrays, path: str, num_heads: int) -> DecoderBlock:
    """Return a block whose layers read few rows."""
    fields = _block(arrays, path, num_heads, linear_for_few_rows)
    cross = f"{path}.cross_attn"
    width = len(arrays[f"{cross}_ln.bias"])
    return DecoderBlock(
        **fields,
        cross_attn_ln=norm(arrays, f"{cross}_ln"),
        query=_linear(arrays, f"{cross}.query", linear_for_few_rows, (width // num_heads) ** -0.5),
        key_value=_linear(arrays, f"{cross}.key_value", Linear),
        cross_out=_linear(arrays, f"{cross}.out", linear_for_few_rows),
    )
