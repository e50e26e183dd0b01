"""Attention, GELU and the vocabulary product: what is computed as suits the backend."""

import functools

import mlx.core as mx
from mlx import nn

from worker import cpu_math


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> mx.array:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K), softmax in float32 whatever the dtype."""
    if not isinstance(mask, mx.array) and _suits_numpy(q):
        return cpu_math.attention(q, k, v, is_causal=mask is not None)
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


def gelu(x: mx.array) -> mx.array:
    """Return the exact (erf) GELU, computed in float32 whatever the dtype.

    In float16, 1 + erf loses what is left below zero, and the text of one word in a hundred with it.
    """
    if x.dtype == mx.float32 and cpu_math.can_compile():
        return cpu_math.gelu(x)
    return nn.gelu(x) if x.dtype == mx.float32 else _half_gelu(x)


@mx.compile
def _half_gelu(x: mx.array) -> mx.array:
    wide: mx.array = nn.gelu(x.astype(mx.float32))
    return wide.astype(x.dtype)


def project(x: mx.array, weight: mx.array, transposed: mx.array) -> mx.array:
    """Return the float32 product of x (..., D) and a weight (N, D), given as float32 (D, N) too."""
    rows = x.reshape(-1, x.shape[-1]).astype(mx.float32)
    if len(rows) <= cpu_math.FEW_ROWS and _suits_numpy(weight):
        projected = cpu_math.project(rows, weight, transposed)
    else:
        projected = rows @ transposed
    return projected.reshape(*x.shape[:-1], -1)


@functools.cache
def _on_cuda() -> bool:
    return bool(mx.cuda.is_available() and mx.default_device().type == mx.gpu)


def _suits_numpy(x: mx.array) -> bool:
    return x.dtype == mx.float32 and cpu_math.is_useful()


def split_heads(x: mx.array, num_heads: int) -> mx.array:
    """Turn (B, T, D) into (B, H, T, K)."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


def merge_heads(x: mx.array) -> mx.array:
    """Turn (B, H, T, K) into (B, T, D)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
