"""exp and erf for MLX's CPU backend on x86, which computes them one element at a time.

The same functions as polynomials, fused by `mx.compile` into loops that the C++ compiler
vectorises: ten times faster, within float32 rounding. Metal, CUDA and Arm have their own. Without a
C++ compiler on the machine, which `mx.compile` calls at run time, MLX's own functions serve.
"""

import functools
import platform
import shutil
from itertools import zip_longest
from typing import Any

import mlx.core as mx

SMALLEST = -87.0
SMALLEST_EXPONENT = -126.0
LOG2_E = 1.4426950408889634
# Adding it and taking it away again rounds to the nearest integer (1.5 x 2**23).
ROUNDING = 12582912.0
EXPONENT_BIAS = 127.0
MANTISSA = float(2**23)
# Taylor coefficients of 2**f, f in [-0.5, 0.5], highest first; the last term left out is 1e-8.
EXP2 = (
    1.540353039338161e-4,
    1.3333558146428443e-3,
    9.618129107628477e-3,
    5.550410866482158e-2,
    2.402265069591007e-1,
    6.931471805599453e-1,
    1.0,
)
# erf(x) = x P(x x) / Q(x x) on [-4, 4] within 2e-7: the minimax coefficients that Eigen and XLA use.
ERF_P = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
ERF_Q = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
ERF_LIMIT = 4.0
SQRT_HALF = 0.7071067811865476
# Scores that are worked on at once: 2 MB stay in the processor's cache, more do not.
SCORES_PER_BLOCK = 500_000
SUM_BLOCK = 256


@functools.cache
def is_useful() -> bool:
    """Tell whether MLX computes on this machine's CPU, and whether that profits."""
    is_x86 = platform.machine() in {"x86_64", "AMD64"}
    on_cpu = mx.default_device().type == mx.cpu
    return bool(is_x86 and on_cpu and shutil.which("g++"))


def exp(x: mx.array) -> mx.array:
    """Return e**x of float32 x <= 0; what is below -87, -inf too, gives 1.6e-38."""
    return exp2(mx.maximum(x, SMALLEST) * LOG2_E)


def exp2(x: mx.array) -> mx.array:
    """Return 2**x of finite float32 x <= 0; what is below -126 gives about 1e-38."""
    return _power_of_fraction(x, mx.view(_power_of_whole(x), mx.float32))


# One output each: MLX would not fuse what two outputs share.
@mx.compile
def _power_of_whole(x: mx.array) -> mx.array:
    """Return the bits of 2**n as a float32, n the integer that is nearest to x."""
    x = mx.where(x > SMALLEST_EXPONENT, x, SMALLEST_EXPONENT)
    return ((((x + ROUNDING) - ROUNDING) + EXPONENT_BIAS) * MANTISSA).astype(mx.int32)


@mx.compile
def _power_of_fraction(x: mx.array, power: mx.array) -> mx.array:
    return _polynomial(EXP2, x - ((x + ROUNDING) - ROUNDING)) * power


def gelu(x: mx.array) -> mx.array:
    """Return x (1 + erf(x / sqrt 2)) / 2 of float32 x."""
    return _weighted_by_erf(x, _within_erf_limit(x))


@mx.compile
def _within_erf_limit(x: mx.array) -> mx.array:
    z = x * SQRT_HALF
    return mx.where(z > ERF_LIMIT, ERF_LIMIT, mx.where(z < -ERF_LIMIT, -ERF_LIMIT, z))


@mx.compile
def _weighted_by_erf(x: mx.array, z: mx.array) -> mx.array:
    squared = z * z
    erf = z * _polynomial(ERF_P, squared) / _polynomial(ERF_Q, squared)
    return (0.5 * x) * (1.0 + erf)


def log_sum_exp(x: mx.array) -> mx.array:
    """Return log(sum(exp(x))) of float32 (B, V), shape (B, 1), summed in two levels.

    MLX's CPU backend adds one by one, so that over 50,000 tokens the float32 sum loses its tail:
    log-probabilities came out 4e-4 too high. Sums of 256 and then of 200 do not.
    """
    rows, width = x.shape
    peak = x.max(axis=-1, keepdims=True)
    powers = mx.pad(exp(x - peak), [(0, 0), (0, -width % SUM_BLOCK)])
    total = powers.reshape(rows, -1, SUM_BLOCK).sum(axis=-1).sum(axis=-1, keepdims=True)
    return mx.log(total) + peak


def attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """Return softmax(q k' / sqrt(K)) v for float32 (B, H, T, K), a few queries at a time.

    Scores lie as (keys, queries): MLX finds the largest of a column three times as fast as that
    of a row.
    """
    batch, heads, length, _ = q.shape
    block = max(1, SCORES_PER_BLOCK // (batch * heads * k.shape[2]))
    queries = (q * (LOG2_E * q.shape[-1] ** -0.5)).swapaxes(-1, -2)
    # A row of ones sums the weights in the same product that applies them.
    values = mx.concatenate([v, mx.ones((*v.shape[:3], 1), v.dtype)], axis=-1).swapaxes(-1, -2)
    read = []
    for first in range(0, length, block):
        scores = k @ queries[..., first : first + block]
        weights = exp2(scores - scores.max(axis=-2, keepdims=True))
        summed = values @ weights
        read.append(summed[:, :, :-1] / summed[:, :, -1:])
    return mx.concatenate(read, axis=-1).swapaxes(-1, -2)


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    """Return the polynomial in x, highest coefficient first, by Estrin's scheme.

    It is shallow enough for one loop: MLX fuses at most 11 operations deep.
    """
    terms: list[Any] = list(reversed(coefficients))
    while len(terms) > 1:
        pairs = zip_longest(terms[::2], terms[1::2])
        terms = [low if high is None else low + high * x for low, high in pairs]
        x = x * x
    result: mx.array = terms[0]
    return result
