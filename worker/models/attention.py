"""Attention and GELU, the two places where the network asks which backend computes."""

import mlx.core as mx
from mlx import nn

from worker import cpu_math

# Fewer queries, the decoder's, cost less in one piece.
MANY_QUERIES = 64


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> mx.array:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K), softmax in float32 whatever the dtype."""
    if mask is None and q.shape[2] >= MANY_QUERIES and _suits_cpu_math(q):
        return cpu_math.attention(q, k, v)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def gelu(x: mx.array) -> mx.array:
    """Return the exact (erf) GELU."""
    return cpu_math.gelu(x) if _suits_cpu_math(x) else nn.gelu(x)


def _suits_cpu_math(x: mx.array) -> bool:
    return x.dtype == mx.float32 and cpu_math.is_useful()


def split_heads(x: mx.array, num_heads: int) -> mx.array:
    """Turn (B, T, D) into (B, H, T, K)."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


def merge_heads(x: mx.array) -> mx.array:
    """Turn (B, H, T, K) into (B, T, D)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
