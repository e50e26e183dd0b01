"""What a network does between its products, in MLX's kernels and in CUDA's own.

`PlainKernels` is what Metal and a CPU run, and what `CudaKernels` is tested against: same inputs,
same results but for rounding. Shapes: G windows of N rows each, D width, H heads, S places, V
vocabulary.
"""

from typing import NamedTuple

import mlx.core as mx
from mlx import nn

from worker.device.backend import on_cuda
from worker.device.rules import State
from worker.device.top_tokens import top_tokens
from worker.models.whisper.cuda import attention as cuda_attention
from worker.models.whisper.cuda import norm as cuda_norm
from worker.models.whisper.cuda import top_tokens as cuda_top_tokens
from worker.models.whisper.layers import (
    Norm,
    attention,
    merge_heads,
    put,
    split_heads,
    split_qkv,
)

# For more queries of a window cuDNN's kernel, which multiplies by matrices, is faster (H200: 0.36 and
# 0.53 ms for two queries of 192 windows, 0.81 and 0.51 ms for five).
MOST_QUERIES = 2


class Places(NamedTuple):
    """Where rows stand in their windows' caches, and what they see there.

    Attributes:
        positions: Of the rows' latest tokens, (G, N) int32.
        here: Where their keys and values belong, (G, 1, N, 1) int32; the same if N is 1.
        mask: What the rows see, broadcast to (G, H, N, S).
    """

    positions: mx.array
    here: mx.array
    mask: mx.array


class PlainKernels:
    """In MLX's own operations."""

    def add_and_norm(
        self, x: mx.array, added: mx.array, norm: nn.LayerNorm
    ) -> tuple[mx.array, mx.array]:
        """Return the residual stream x (..., D) with what is added, and normalised."""
        x = x + added
        return x, norm(x)

    def read_text(
        self, qkv: mx.array, keys: mx.array, values: mx.array, places: Places
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return what rows read of their windows' tokens, (G, N, D), and their caches.

        Args:
            qkv: Queries, keys and values of the latest tokens, (G, N, 3 D).
            keys: The windows', (G, H, S, D / H); it is used up.
            values: The same of values.
            places: Where the latest tokens belong, and what their rows see.
        """
        q, k, v = split_qkv(qkv, keys.shape[1])
        keys, values = put(keys, places.here, k), put(values, places.here, v)
        return merge_heads(attention(q, keys, values, places.mask)), keys, values

    def read_audio(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """Return what rows read of their windows' audio, (G, N, D), by queries (G, N, D)."""
        q = split_heads(queries, keys.shape[1])
        return merge_heads(attention(q, keys, values, None))

    def top_tokens(
        self, logits: mx.array, state: State, rules: State, count: int
    ) -> tuple[mx.array, mx.array]:
        """Return each row's likeliest tokens; see `worker.device.top_tokens.top_tokens`."""
        return top_tokens(logits, state, rules, count, log_normalizer)


class CudaKernels(PlainKernels):
    """The same in half as many launches; for half precision and heads of 64 numbers."""

    def add_and_norm(
        self, x: mx.array, added: mx.array, norm: nn.LayerNorm
    ) -> tuple[mx.array, mx.array]:
        """See `PlainKernels.add_and_norm`."""
        dtype = norm.weight.dtype if isinstance(norm, Norm) else x.dtype
        return cuda_norm.add_and_norm(x, added, norm.weight, norm.bias, dtype)

    def read_text(
        self, qkv: mx.array, keys: mx.array, values: mx.array, places: Places
    ) -> tuple[mx.array, mx.array, mx.array]:
        """See `PlainKernels.read_text`; beams see others' places, which is MLX's to mask."""
        if qkv.shape[1] > 1:
            return super().read_text(qkv, keys, values, places)
        return cuda_attention.own_attention(qkv, keys, values, places.positions), keys, values

    def read_audio(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """See `PlainKernels.read_audio`."""
        if queries.shape[1] > MOST_QUERIES:
            return super().read_audio(queries, keys, values)
        return cuda_attention.audio_attention(queries, keys, values)

    def top_tokens(
        self, logits: mx.array, state: State, rules: State, count: int
    ) -> tuple[mx.array, mx.array]:
        """See `PlainKernels.top_tokens`."""
        return cuda_top_tokens.top_tokens(logits, state, rules, count)


def log_normalizer(logits: mx.array) -> mx.array:
    """Return log(sum(exp(logits))) of (B, V), shape (B, 1)."""
    return mx.logsumexp(logits, axis=-1, keepdims=True)


def step_kernels(dtype: mx.Dtype, width: int, num_heads: int) -> PlainKernels:
    """Return the kernels for a decoder of a width, on the device that MLX computes on."""
    is_half = dtype in (mx.float16, mx.bfloat16)
    fits = width // num_heads == cuda_attention.HEAD_SIZE and cuda_norm.fits(width)
    return CudaKernels() if on_cuda() and is_half and fits else PlainKernels()
