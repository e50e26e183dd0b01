"""The network's layers, computed as suits the backend.

They take arrays of MLX. On x86 CPUs they also take NumPy's, for a decode step, and then compute
with NumPy: see `cpu_math`.
"""

import functools
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from mlx import nn

from worker.device import cpu_math

# Of MLX or of NumPy; layers give what they are given.
AnyArray: TypeAlias = Any


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last axis."""

    def __call__(self, x: AnyArray) -> AnyArray:
        """Return x (..., D) normalised."""
        if isinstance(x, np.ndarray):
            return cpu_math.layer_norm(x, self.weight, self.bias, self.eps)
        return super().__call__(x)


class Norm(LayerNorm):
    """Layer normalisation of a float32 residual stream, for a layer that computes in less."""

    def __call__(self, x: AnyArray) -> AnyArray:
        """Return x (..., D) normalised, in the dtype of the weights."""
        normalized = super().__call__(x)
        return normalized if isinstance(x, np.ndarray) else normalized.astype(self.weight.dtype)


class Linear(nn.Linear):
    """A linear layer with a bias."""

    def __call__(self, x: AnyArray) -> AnyArray:
        """Return x (..., D) transformed, (..., N)."""
        if isinstance(x, np.ndarray):
            return cpu_math.linear(x, self.weight, self.bias)
        return super().__call__(x)


def lay_out_for_numpy(layer: Linear) -> None:
    """Lay out a weight (N, D) as NumPy's BLAS reads it fastest for few rows.

    That is column by column, unless the layer narrows.
    """
    if layer.weight.shape[0] >= layer.weight.shape[1]:
        layer.weight = mx.contiguous(layer.weight.T).T


def attention(q: AnyArray, k: mx.array, v: mx.array, mask: AnyArray | str | None) -> AnyArray:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K), softmax in float32 whatever the dtype."""
    if isinstance(q, np.ndarray):
        return cpu_math.attention(q, k, v, mask)
    if suits_numpy(q):
        read = cpu_math.attention(q, k, v, mask)
        # As it lies in memory, for the heads to be merged without a copy.
        return mx.array(read.swapaxes(1, 2)).swapaxes(1, 2)
    if q.shape[2] == 1 and q.dtype != mx.float32 and _on_cuda():
        return _single_query_on_cuda(q, k, v, mask)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def _single_query_on_cuda(
    q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None
) -> mx.array:
    """Ask twice: MLX's CUDA kernel for one query reads keys and values at half the memory's speed.

    Two queries take the fused kernel, which reads at 86 % of it (H100, mlx 0.32.4); it likes
    masks that are added.
    """
    if isinstance(mask, str):
        mask = None  # causal: the last query sees every key
    elif mask is not None:
        mask = mx.where(mask, 0.0, -mx.inf).astype(q.dtype)
    read = mx.fast.scaled_dot_product_attention(
        mx.concatenate([q, q], axis=2), k, v, scale=q.shape[-1] ** -0.5, mask=mask
    )
    first: mx.array = read[:, :, :1]
    return first


def up_to(positions: AnyArray, length: int) -> AnyArray:
    """Return what rows at positions (B, 1, 1, 1) see of their caches, (B, 1, 1, length)."""
    places = np.arange(length) if isinstance(positions, np.ndarray) else mx.arange(length)
    return places <= positions


def put(rows: mx.array, positions: AnyArray, new: AnyArray) -> mx.array:
    """Return cached rows (B, H, S, K) with (B, H, 1, K) at each row's position (B, 1, 1, 1).

    The rows given are used up.
    """
    if isinstance(new, np.ndarray):
        cpu_math.put(rows, positions, new)
        return rows
    return mx.put_along_axis(rows, mx.broadcast_to(positions, new.shape), new, axis=2)


def gelu(x: AnyArray) -> AnyArray:
    """Return the exact (erf) GELU, computed in float32 whatever the dtype.

    In float16, 1 + erf loses what is left below zero, and the text of one word in a hundred with it.
    """
    if isinstance(x, np.ndarray):
        return cpu_math.gelu(x)
    if x.dtype == mx.float32 and cpu_math.can_compile():
        return cpu_math.compiled_gelu(x)
    return nn.gelu(x) if x.dtype == mx.float32 else _half_gelu(x)


@mx.compile
def _half_gelu(x: mx.array) -> mx.array:
    wide: mx.array = nn.gelu(x.astype(mx.float32))
    return wide.astype(x.dtype)


def project(x: AnyArray, weight: mx.array, transposed: mx.array) -> mx.array:
    """Return the float32 product of x (..., D) and a weight (N, D), given as float32 (D, N) too."""
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= cpu_math.FEW_ROWS and suits_numpy(weight):
        projected = mx.array(cpu_math.project(rows, weight, transposed))
    else:
        projected = mx.array(rows).astype(mx.float32) @ transposed
    return projected.reshape(*x.shape[:-1], -1)


@functools.cache
def _on_cuda() -> bool:
    return bool(mx.cuda.is_available() and mx.default_device().type == mx.gpu)


def suits_numpy(x: mx.array) -> bool:
    """Tell whether NumPy computes faster with an array of MLX than MLX does."""
    return x.dtype == mx.float32 and cpu_math.is_useful()


def split_heads(x: AnyArray, num_heads: int) -> AnyArray:
    """Turn (B, T, D) into (B, H, T, K)."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


def merge_heads(x: AnyArray) -> AnyArray:
    """Turn (B, H, T, K) into (B, T, D)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
