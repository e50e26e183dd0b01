"""The MLX network's layers: attention, MLP and the blocks of encoder and decoder.

Shapes: B rows, T tokens or positions, S = 1500 audio positions, D width, H heads, K = D / H.
"""

import math

import mlx.core as mx
from mlx import nn

from worker.device.backend import on_cuda
from worker.models.whisper.cuda.norm import gelu as cuda_gelu


class Norm(nn.LayerNorm):
    """Layer normalisation of a float32 residual stream, for a layer that computes in less."""

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (..., D) normalised, in the dtype of the weights."""
        return super().__call__(x).astype(self.weight.dtype)


class SelfAttention(nn.Module):
    """Multi-head attention over one sequence, with one fused projection for q, k and v."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def project(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Return q, k, v of x (B, T, D), each (B, H, T, K)."""
        return split_qkv(self.qkv(x), self.num_heads)

    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None
    ) -> mx.array:
        """Return the attention's output (B, T, D)."""
        return self.out(merge_heads(attention(q, k, v, mask)))


class CrossAttention(nn.Module):
    """Attention of text over encoded audio; keys and values are made once a window."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def project_audio(self, states: mx.array) -> tuple[mx.array, mx.array]:
        """Return keys and values of encoder states (B, S, D), each (B, H, S, K).

        They are laid out as attention reads them: it would copy them at every step otherwise.
        """
        k, v = mx.split(self.key_value(states), 2, axis=-1)
        heads = (split_heads(k, self.num_heads), split_heads(v, self.num_heads))
        return mx.contiguous(heads[0]), mx.contiguous(heads[1])

    def __call__(self, x: mx.array, k: mx.array, v: mx.array) -> mx.array:
        """Return what text x (B, T, D) reads from the audio, (B, T, D)."""
        q = split_heads(self.query(x), self.num_heads)
        return self.out(merge_heads(attention(q, k, v, None)))


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (B, T, D) transformed."""
        return self.down(gelu(self.up(x)))


class EncoderBlock(nn.Module):
    """Pre-norm self-attention and MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, num_heads)
        self.attn_ln = Norm(width)
        self.mlp = MLP(width)
        self.mlp_ln = Norm(width)

    def attend(self, normed: mx.array) -> mx.array:
        """Return the self-attention of normalised x (B, S, D), the same shape."""
        return self.attn.attend(*self.attn.project(normed), None)


class DecoderBlock(nn.Module):
    """Pre-norm self-attention, cross-attention and MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attn = SelfAttention(width, num_heads)
        self.attn_ln = Norm(width)
        self.cross_attn = CrossAttention(width, num_heads)
        self.cross_attn_ln = Norm(width)
        self.mlp = MLP(width)
        self.mlp_ln = Norm(width)

    def finish(self, x: mx.array, cross: tuple[mx.array, mx.array]) -> mx.array:
        """Return x (B, T, D) after cross-attention and MLP."""
        x = x + self.cross_attn(self.cross_attn_ln(x), *cross)
        return x + self.mlp(self.mlp_ln(x))


def attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> mx.array:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K), softmax in float32 whatever the dtype."""
    if q.dtype != mx.float32 and on_cuda():
        mask = _added_on_cuda(mask, q.dtype)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)


def _added_on_cuda(mask: mx.array | str | None, dtype: mx.Dtype) -> mx.array | str | None:
    """Return a mask that is added; others than arrays as they are."""
    if mask is None or isinstance(mask, str):
        return mask
    return mx.where(mask, 0.0, -mx.inf).astype(dtype)


def up_to(positions: mx.array, length: int) -> mx.array:
    """Return what rows at positions (B, 1, 1, 1) see of their caches, (B, 1, 1, length)."""
    return mx.arange(length) <= positions


def own_and_ancestors(positions: mx.array, ancestors: mx.array) -> mx.array:
    """Return what beams see of their window's cache, (G, 1, K, T K).

    Args:
        positions: Where each beam stands, (G, K).
        ancestors: Whose token it has at each position, (G, K, T).
    """
    num_beams, length = ancestors.shape[1:]
    is_own = ancestors[..., None] == mx.arange(num_beams)
    is_read = mx.arange(length) <= positions[..., None]
    seen = is_own & is_read[..., None]
    return seen.reshape(-1, 1, num_beams, length * num_beams)


def put(rows: mx.array, positions: mx.array, new: mx.array) -> mx.array:
    """Return a cache (G, H, S, K) with tokens (G, H, N, K) at their places (G, 1, N, 1)."""
    return mx.put_along_axis(rows, mx.broadcast_to(positions, new.shape), new, axis=2)


def gelu(x: mx.array) -> mx.array:
    """Return the exact (erf) GELU, computed in float32 whatever the dtype.

    In float16, 1 + erf loses what is left below zero, and the text of one word in a hundred with it.
    """
    if on_cuda() and x.dtype != mx.float32:
        return cuda_gelu(x)
    # On a CPU, mx.compile (and so nn.gelu) calls a C++ compiler while it runs, where it finds one.
    compute = _gelu if mx.default_device().type == mx.cpu else _compiled_gelu
    gated: mx.array = compute(x)
    return gated


def _gelu(x: mx.array) -> mx.array:
    wide = x.astype(mx.float32)
    gated: mx.array = (wide * (1 + mx.erf(wide / math.sqrt(2))) / 2).astype(x.dtype)
    return gated


_compiled_gelu = mx.compile(_gelu)


def split_qkv(qkv: mx.array, num_heads: int) -> tuple[mx.array, mx.array, mx.array]:
    """Return q, k, v, each (B, H, T, K), of a fused projection (B, T, 3 D)."""
    heads = split_heads(qkv, 3 * num_heads)
    return heads[:, :num_heads], heads[:, num_heads:-num_heads], heads[:, -num_heads:]


def split_heads(x: mx.array, num_heads: int) -> mx.array:
    """Turn (B, T, D) into (B, H, T, K)."""
    return x.reshape(*x.shape[:2], num_heads, -1).swapaxes(1, 2)


def merge_heads(x: mx.array) -> mx.array:
    """Turn (B, H, T, K) into (B, T, D)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)
