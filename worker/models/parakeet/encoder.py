"""FastConformer in MLX: subsampled features through blocks of attention and convolution.

Shapes: B pieces of T encoder frames, D width, H heads, K = D / H. Padding is masked wherever frames
meet, so that no piece depends on what it is padded to or computed with.
"""

import functools
import math
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
from mlx import nn

from worker.device.backend import on_cuda, uploaded
from worker.models.parakeet.config import EncoderConfig
from worker.models.parakeet.layers import fused, is_within, silu
from worker.models.parakeet.subsampling import Subsampling

# That are handed over between two steps: the 0.6b's 24 layers in six parts.
LAYERS_PER_PART = 4


@fused
def masked_glu(x: mx.array, gate: mx.array, mask: mx.array) -> mx.array:
    """Return x sigmoid(gate) where the mask holds."""
    return mx.where(mask, x * mx.sigmoid(gate), 0).astype(x.dtype)


@fused
def add_half(x: mx.array, y: mx.array) -> mx.array:
    """Return x + y / 2."""
    return x + 0.5 * y


@fused
def _with_biases(q: mx.array, u: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
    """Return queries with each of two biases."""
    return q + u, q + v


@fused
def _position_bias(scores: mx.array, is_key: mx.array, scale: float) -> mx.array:
    """Return scaled scores where there is a key, and -inf elsewhere."""
    return mx.where(is_key, scores * scale, -mx.inf).astype(scores.dtype)


class FeedForward(nn.Module):
    """Two linear layers around a SiLU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.width, config.feed_forward_width, config.has_bias)
        self.linear2 = nn.Linear(config.feed_forward_width, config.width, config.has_bias)

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (B, T, D) transformed."""
        return self.linear2(silu(self.linear1(x)))


class RelativeAttention(nn.Module):
    """Attention whose scores also depend on how far apart query and key are (Dai et al., 2019)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.scale = config.head_width**-0.5
        self.qkv = nn.Linear(config.width, 3 * config.width, config.has_bias)
        self.linear_out = nn.Linear(config.width, config.width, config.has_bias)
        self.linear_pos = nn.Linear(config.width, config.width, bias=False)
        self.pos_bias_u = mx.zeros((config.num_heads, config.head_width))
        self.pos_bias_v = mx.zeros((config.num_heads, config.head_width))

    def __call__(self, x: mx.array, positions: mx.array, is_key: mx.array) -> mx.array:
        """Return what x (B, T, D) reads of itself.

        Args:
            x: Normalised input.
            positions: Of the distances T - 1 .. - T, (2 T, D).
            is_key: Frames that may be read, (B, 1, 1, T).
        """
        heads = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, -1).transpose(2, 0, 3, 1, 4)
        by_content, by_distance = _with_biases(
            heads[0], self.pos_bias_u[:, None], self.pos_bias_v[:, None]
        )
        distances = self.linear_pos(positions).reshape(-1, self.num_heads, heads.shape[-1])
        # As the product reads them fastest: on CUDA it takes twice as long as they lie.
        distances = mx.contiguous(distances.transpose(1, 2, 0))
        bias = _position_bias(shifted(by_distance @ distances), is_key, self.scale)
        read = mx.fast.scaled_dot_product_attention(
            by_content, heads[1], heads[2], scale=self.scale, mask=bias
        )
        return self.linear_out(read.swapaxes(1, 2).reshape(x.shape))


def shifted(scores: mx.array) -> mx.array:
    """Return scores by distance (B, H, T, 2 T) as scores by key (B, H, T, T).

    Query i reads key j at the distance i - j, which stands at T - 1 - i + j.
    """
    batch, heads, length, width = scores.shape
    strides = (heads * length * width, length * width, width - 1, 1)
    return mx.as_strided(scores, (batch, heads, length, length), strides, offset=length - 1)


class Convolution(nn.Module):
    """A gated linear unit, a depthwise convolution in time, a SiLU and a linear layer.

    The batch norm between them is part of the depthwise weights: see `weights.fuse`.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Linear(config.width, 2 * config.width, config.has_conv_bias)
        self.depthwise_weight = mx.zeros((config.kernel_size, config.width))
        self.depthwise_bias = mx.zeros((config.width,))
        self.pointwise_conv2 = nn.Linear(config.width, config.width, config.has_conv_bias)

    def __call__(self, x: mx.array, is_frame: mx.array) -> mx.array:
        """Return x (B, T, D) transformed; what is no frame (B, T, 1) counts as 0."""
        x, gate = mx.split(self.pointwise_conv1(x), 2, axis=-1)
        x = masked_glu(x, gate, is_frame)
        x = depthwise_silu(x, self.depthwise_weight, self.depthwise_bias)
        return self.pointwise_conv2(x)


def depthwise_silu(x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
    """Return SiLU of x (B, T, D) convolved in time with weights (K, D), zeros around it.

    As sums of shifted inputs, in one pass: neither MLX's CPU nor its Metal backend has a grouped
    convolution that is made for as many groups as channels. CUDA's is three times faster.
    """
    length, around = x.shape[1], weight.shape[0] // 2
    if on_cuda():
        convolved = mx.conv1d(x, weight.T[..., None], padding=around, groups=x.shape[-1])
        return _biased_silu(convolved, bias)
    x = mx.pad(x, [(0, 0), (around, around), (0, 0)])
    parts = [x[:, at : at + length] for at in range(weight.shape[0])]
    return _weighted_silu(weight, bias, *parts)


@fused
def _biased_silu(x: mx.array, bias: mx.array) -> mx.array:
    x = x + bias
    return x * mx.sigmoid(x)


@fused
def _weighted_silu(weight: mx.array, bias: mx.array, *parts: mx.array) -> mx.array:
    total = bias.astype(mx.float32)
    for at, part in enumerate(parts):
        total = total + part.astype(mx.float32) * weight[at].astype(mx.float32)
    return (total * mx.sigmoid(total)).astype(parts[0].dtype)


class Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, a norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(config.width)
        self.feed_forward1 = FeedForward(config)
        self.norm_self_att = nn.LayerNorm(config.width)
        self.self_attn = RelativeAttention(config)
        self.norm_conv = nn.LayerNorm(config.width)
        self.conv = Convolution(config)
        self.norm_feed_forward2 = nn.LayerNorm(config.width)
        self.feed_forward2 = FeedForward(config)
        self.norm_out = nn.LayerNorm(config.width)

    def __call__(self, x: mx.array, positions: mx.array, is_frame: mx.array) -> mx.array:
        """Return x (B, T, D) transformed, for frames (B, T)."""
        x = add_half(x, self.feed_forward1(self.norm_feed_forward1(x)))
        x = x + self.self_attn(self.norm_self_att(x), positions, is_frame[:, None, None])
        x = x + self.conv(self.norm_conv(x), is_frame[..., None])
        x = add_half(x, self.feed_forward2(self.norm_feed_forward2(x)))
        return self.norm_out(x)


class Encoder(nn.Module):
    """Features to states, eight mel frames to one."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.input_scale = math.sqrt(config.width) if config.scales_input else 1.0
        self.pre_encode = Subsampling(config)
        self.layers = [Block(config) for _ in range(config.num_layers)]

    @property
    def num_parts(self) -> int:
        """How much `in_parts` yields."""
        return -(-len(self.layers) // LAYERS_PER_PART)

    def __call__(self, subsampled: mx.array, num_frames: mx.array) -> mx.array:
        """Return states (B, T, D) of `pre_encode`'s output, for pieces of so many frames (B,)."""
        *_, states = self.in_parts(subsampled, num_frames)
        return states

    def in_parts(self, subsampled: mx.array, num_frames: mx.array) -> Iterator[mx.array]:
        """Yield what some layers make of it (B, T, D), and then the next; at last, the states."""
        x = subsampled * self.input_scale
        length, width = x.shape[1:]
        positions = uploaded(relative_positions, length, width).astype(x.dtype)
        is_frame = is_within(num_frames, length)
        for first in range(0, len(self.layers), LAYERS_PER_PART):
            for layer in self.layers[first : first + LAYERS_PER_PART]:
                x = layer(x, positions, is_frame)
            yield x


@functools.lru_cache(maxsize=32)
def relative_positions(length: int, width: int) -> np.ndarray:
    """Return sines and cosines, by turns, of the distances T - 1 .. - T; (2 T, D) float32.

    The last one is never read: products like an even number of them.
    """
    rates = 1.0 / (10000.0 ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width)))
    angles = np.arange(length - 1, -length - 1, -1, dtype=np.float32)[:, None] * rates
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return waves.reshape(2 * length, width).astype(np.float32)
