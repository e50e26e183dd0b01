"""The NumPy network's layers, and how the weights of a checkpoint lie in them.

Shapes: T encoder frames, D width, K kernel.
"""

from dataclasses import dataclass

import numpy as np

from worker.models.numpy_layers import Linear, Norm, by_columns
from worker.models.numpy_math import FloatArray

# By the names of `fused_arrays`.
Arrays = dict[str, FloatArray]


@dataclass(frozen=True)
class FeedForward:
    """A norm, and two linear layers around a SiLU."""

    norm: Norm
    up: Linear
    down: Linear

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return x (T, D) transformed."""
        return self.down.alone(silu(self.up.alone(self.norm(x))))


@dataclass(frozen=True)
class Block:
    """What a conformer block holds; see `encoder.Block`.

    Attributes:
        content_bias, position_bias: Added to queries, (D,).
        depthwise: Of the convolution in time, (K, D).
    """

    first: FeedForward
    attention_norm: Norm
    qkv: Linear
    out: Linear
    positions: Linear
    content_bias: FloatArray
    position_bias: FloatArray
    convolution_norm: Norm
    gated: Linear
    depthwise: FloatArray
    depthwise_bias: FloatArray
    pointwise: Linear
    second: FeedForward
    norm: Norm


def linear(arrays: Arrays, name: str) -> Linear:
    """Return a linear layer by its parameters' name; without a bias it has zeros."""
    weight = arrays[f"{name}.weight"]
    bias = arrays.get(f"{name}.bias")
    return Linear(by_columns(weight), np.zeros(len(weight), np.float32) if bias is None else bias)


def norm(arrays: Arrays, name: str) -> Norm:
    """Return a layer normalisation by its parameters' name."""
    return Norm(arrays[f"{name}.weight"], arrays[f"{name}.bias"])


def block(arrays: Arrays, path: str) -> Block:
    """Return a conformer block by its parameters' names."""

    def feed_forward(number: int) -> FeedForward:
        layers = (linear(arrays, f"{path}.feed_forward{number}.linear{at}") for at in (1, 2))
        return FeedForward(norm(arrays, f"{path}.norm_feed_forward{number}"), *layers)

    attention, convolution = f"{path}.self_attn", f"{path}.conv"
    return Block(
        first=feed_forward(1),
        attention_norm=norm(arrays, f"{path}.norm_self_att"),
        qkv=linear(arrays, f"{attention}.qkv"),
        out=linear(arrays, f"{attention}.linear_out"),
        positions=linear(arrays, f"{attention}.linear_pos"),
        content_bias=arrays[f"{attention}.pos_bias_u"].reshape(-1),
        position_bias=arrays[f"{attention}.pos_bias_v"].reshape(-1),
        convolution_norm=norm(arrays, f"{path}.norm_conv"),
        gated=linear(arrays, f"{convolution}.pointwise_conv1"),
        depthwise=arrays[f"{convolution}.depthwise_weight"],
        depthwise_bias=arrays[f"{convolution}.depthwise_bias"],
        pointwise=linear(arrays, f"{convolution}.pointwise_conv2"),
        second=feed_forward(2),
        norm=norm(arrays, f"{path}.norm_out"),
    )


def silu(x: FloatArray) -> FloatArray:
    """Return x sigmoid(x); x is overwritten."""
    x *= sigmoid(x)
    return x


def sigmoid(x: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x))."""
    result = np.negative(x)
    np.exp(result, out=result)
    result += np.float32(1)
    np.reciprocal(result, out=result)
    return result
