"""What the MLX network's parts have in common."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import mlx.core as mx

P = ParamSpec("P")
R = TypeVar("R")


def fused(compute: Callable[P, R]) -> Callable[P, R]:
    """Let a GPU compute a function of numbers in one pass.

    On a CPU, mx.compile calls a C++ compiler while it runs, where it finds one.
    """
    compiled = mx.compile(compute)

    @functools.wraps(compute)
    def call(*arrays: P.args, **named: P.kwargs) -> R:
        on_cpu = mx.default_device().type == mx.cpu
        result: R = (compute if on_cpu else compiled)(*arrays, **named)
        return result

    return call


@fused
def silu(x: mx.array) -> mx.array:
    """Return x sigmoid(x)."""
    return x * mx.sigmoid(x)


def is_within(num_frames: mx.array, length: int) -> mx.array:
    """Return which of `length` frames lie within pieces of so many frames (B,); (B, length)."""
    return mx.arange(length) < num_frames[:, None]
