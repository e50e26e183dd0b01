"""What MLX's CPU backend does slowly on x86, done by NumPy and by loops that a compiler vectorises.

MLX computes exp, erf and sums there one element at a time on one core, multiplies few rows by a
matrix only after it has copied the matrix, and takes 3 us to start an operation and 50 us to wait
for one, which is a third of a decode step. NumPy has vector instructions and a BLAS of its own.

Functions take arrays of MLX, whose memory NumPy shares, or of NumPy, numbers in float32. All but
`compiled_gelu` wait for what they are given and compute at once, with NumPy. What is not finite is
found where logits are checked, and not warned of here. Metal, CUDA and Arm have fast kernels and do
not come here.
"""

import functools
import os
import platform
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product, zip_longest
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx
import numpy as np
import threadpoolctl
from numpy.typing import NDArray

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
# Fewer queries, the decoder's, are read a share of the rows a thread; more, a head at a time.
MANY_QUERIES = 32
# Scores of so many queries stay in a core's cache.
QUERIES_PER_BLOCK = 512
# More rows are faster as one product.
FEW_ROWS = 8
# OpenBLAS multiplies few rows by few columns without copying the columns first, up to so many
# products and multiplications.
PRODUCTS_PER_BLOCK = 1024
MULTIPLICATIONS_PER_BLOCK = 1_000_000
# Handing work to a thread takes as long as half of this.
MULTIPLICATIONS_WORTH_A_THREAD = 1 << 20

ALL = slice(None)

FloatArray = NDArray[np.float32]
Array = mx.array | FloatArray

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def is_useful() -> bool:
    """Tell whether MLX computes on the CPU of an x86 machine."""
    is_x86 = platform.machine() in {"x86_64", "AMD64"}
    return bool(is_x86 and mx.default_device().type == mx.cpu)


@functools.cache
def can_compile() -> bool:
    """Tell whether it does, and `mx.compile` finds the C++ compiler that it calls at run time."""
    return is_useful() and shutil.which("g++") is not None


@functools.cache
def num_cpus() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Stopwatch:
    """Counts the seconds that NumPy computes, and waits for what it computes on.

    Attributes:
        total_s: So far.
    """

    def __init__(self) -> None:
        self.total_s = 0.0
        self._is_running = False

    def counts(self, compute: Callable[P, R]) -> Callable[P, R]:
        """Return a function that is counted, but for calls within one that is counted already."""

        @functools.wraps(compute)
        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            if self._is_running or not is_useful():
                return compute(*args, **kwargs)
            self._is_running = True
            started = time.perf_counter()
            try:
                with np.errstate(all="ignore"):
                    return compute(*args, **kwargs)
            finally:
                self.total_s += time.perf_counter() - started
                self._is_running = False

        return counted


stopwatch = Stopwatch()


def shared(*arrays: Array) -> tuple[FloatArray, ...]:
    """Return arrays as NumPy's; what MLX computes is waited for, and not copied."""
    mx.eval([array for array in arrays if isinstance(array, mx.array)])
    return tuple(np.asarray(array) for array in arrays)


@stopwatch.counts
def attention(q: Array, k: Array, v: Array, mask: Array | str | None = None) -> FloatArray:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K).

    Args:
        q: Queries.
        k: Keys, (B, H, S, K).
        v: Values, (B, H, S, K).
        mask: What a row's queries see, boolean (B, 1, 1, S), or `causal`, for S = T.
    """
    queries, keys, values = shared(q, k, v)
    batch, heads, length, size = queries.shape
    # Laid out for the heads to be merged without a copy.
    read = np.empty((batch, length, heads, size), np.float32).swapaxes(1, 2)
    unseen = _added_mask(mask, (batch, heads, length, keys.shape[2]))

    def attend(*part: slice) -> None:
        rows, head, _ = part
        seen = keys[rows, head], values[rows, head]
        _attend(queries[part], *seen, None if unseen is None else unseen[part], read[part])

    if length < MANY_QUERIES:
        shares = _shares(batch, multiplications=queries.size * keys.shape[2])
        _in_threads(attend, [(rows, ALL, ALL) for rows in shares])
    else:
        blocks = _blocks(length, QUERIES_PER_BLOCK)
        _in_threads(attend, list(product(_blocks(batch, 1), _blocks(heads, 1), blocks)))
    return read


def _added_mask(mask: Array | str | None, shape: tuple[int, ...]) -> FloatArray | None:
    """Return what is added to scores (B, H, T, S), for them to lose all weight where unseen."""
    if mask is None:
        return None
    if isinstance(mask, str):
        # Positions after a query's own.
        added = np.triu(np.full(shape[2:], -np.inf, np.float32), 1)
    else:
        added = np.where(np.asarray(mask), np.float32(0), np.float32(-np.inf))
    return np.broadcast_to(added, shape)


def _attend(
    q: FloatArray, k: FloatArray, v: FloatArray, mask: FloatArray | None, read: FloatArray
) -> None:
    """Write the attention of queries (..., T, K) to `read`; the mask is added to their scores."""
    weights = (q * np.float32(q.shape[-1] ** -0.5)) @ k.swapaxes(-1, -2)
    if mask is not None:
        weights += mask
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    np.divide(weights @ v, weights.sum(axis=-1, keepdims=True), out=read)


@stopwatch.counts
def put(rows: Array, positions: Array, new: Array) -> None:
    """Write to cached rows (B, H, S, K), in place, (B, H, 1, K) at each row's position (B, 1, 1, 1)."""
    cached, at, joining = shared(rows, positions, new)
    cached[np.arange(len(cached)), :, at[:, 0, 0, 0]] = joining[:, :, 0]


@stopwatch.counts
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> FloatArray:
    """Return x (..., D) with mean 0 and variance 1, times a weight (D,), and a bias (D,) added."""
    rows, scale, shift = shared(x, weight, bias)
    share = np.float32(1 / rows.shape[-1])
    total: FloatArray = np.add.reduce(rows, axis=-1, keepdims=True)
    normalized = rows - total * share
    squared: FloatArray = np.add.reduce(np.square(normalized), axis=-1, keepdims=True)
    normalized /= np.sqrt(squared * share + np.float32(eps))
    normalized *= scale
    normalized += shift
    return normalized


@stopwatch.counts
def linear(x: Array, weight: Array, bias: Array) -> FloatArray:
    """Return x weight' + bias of x (..., D), for a weight (N, D) and a bias (N,)."""
    rows, tall, shift = shared(x, weight, bias)
    projected = _product(rows.reshape(-1, rows.shape[-1]), tall)
    projected += shift
    return projected.reshape(*rows.shape[:-1], -1)


@stopwatch.counts
def project(x: Array, weight: Array, transposed: Array) -> FloatArray:
    """Return x weight' of few rows (B, D), for a tall weight (N, D).

    Args:
        x: The rows.
        weight: It multiplies several rows.
        transposed: The same, (D, N): OpenBLAS reads it faster for a single row.
    """
    rows, tall, wide = shared(x, weight, transposed)
    return _product(rows, wide.T if len(rows) == 1 else tall)


def _product(x: FloatArray, weight: FloatArray) -> FloatArray:
    """Return x weight' of (B, D) and (N, D)."""
    result = np.empty((len(x), len(weight)), np.float32)
    shares = _shares(len(weight), multiplications=len(x) * weight.size)
    _in_threads(lambda share: _multiply(x, weight[share], result[:, share]), [(s,) for s in shares])
    return result


def _multiply(x: FloatArray, weight: FloatArray, result: FloatArray) -> None:
    """Write x weight' to `result`; for few rows, a block of the weight's rows at a time."""
    if len(x) == 1 or len(x) > FEW_ROWS:
        np.matmul(x, weight.T, out=result)
        return
    width = weight.shape[1]
    block = max(1, min(PRODUCTS_PER_BLOCK, MULTIPLICATIONS_PER_BLOCK // width) // len(x))
    whole = len(weight) // block * block
    blocks = weight[:whole].reshape(-1, block, width)
    at = result[:, :whole].reshape(len(x), -1, block)
    np.matmul(x, blocks.swapaxes(-1, -2), out=at.swapaxes(0, 1))
    np.matmul(x, weight[whole:].T, out=result[:, whole:])


@stopwatch.counts
def log_sum_exp(x: Array) -> FloatArray:
    """Return log(sum(exp(x))) of (B, V), shape (B, 1).

    NumPy sums by pairs. MLX's CPU backend adds one by one, so that over 50,000 tokens the float32
    sum loses its tail: log-probabilities came out 4e-4 too high.
    """
    [rows] = shared(x)
    peak = rows.max(axis=-1, keepdims=True)
    total: FloatArray = np.log(np.exp(rows - peak).sum(axis=-1, keepdims=True)) + peak
    return total


def _shares(length: int, multiplications: int) -> list[slice]:
    """Return a part for each processor that has enough to do."""
    count = min(num_cpus(), max(1, multiplications // MULTIPLICATIONS_WORTH_A_THREAD))
    return _blocks(length, -(-length // count))


def _blocks(length: int, size: int) -> list[slice]:
    """Return parts of a size; the last one may be shorter."""
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _in_threads(run: Callable[..., None], calls: list[tuple[slice, ...]]) -> None:
    """Call `run` with each of the arguments, in this thread and in helping ones."""
    helpers = _helpers()
    if len(calls) == 1:
        run(*calls[0])
        return
    remaining = iter(calls)

    def work() -> None:
        with np.errstate(all="ignore"):
            for arguments in remaining:
                run(*arguments)

    helping = [helpers.submit(work) for _ in range(min(num_cpus(), len(calls)) - 1)]
    work()
    for helper in helping:
        helper.result()


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    """Return threads for the other processors; NumPy's BLAS is to start none of its own then."""
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if "numpy" in library.filepath:
            library.set_num_threads(1)
    return ThreadPoolExecutor(max(1, num_cpus() - 1), "cpu_math")


@stopwatch.counts
def gelu(x: FloatArray) -> FloatArray:
    """Return x (1 + erf(x / sqrt 2)) / 2 of few x."""
    gated: FloatArray = _gelu(x, np.clip(x * np.float32(SQRT_HALF), -ERF_LIMIT, ERF_LIMIT))
    return gated


def compiled_gelu(x: mx.array) -> mx.array:
    """Return the same of many x, without waiting."""
    gated: mx.array = _compiled_gelu(x, _within_erf_limit(x))
    return gated


@mx.compile
def _within_erf_limit(x: mx.array) -> mx.array:
    z = x * SQRT_HALF
    return mx.where(z > ERF_LIMIT, ERF_LIMIT, mx.where(z < -ERF_LIMIT, -ERF_LIMIT, z))


def _gelu(x: Any, z: Any) -> Any:
    """Return the GELU of x, given x / sqrt 2 within the limit."""
    squared = z * z
    erf = z * _polynomial(ERF_P, squared) / _polynomial(ERF_Q, squared)
    return (0.5 * x) * (1.0 + erf)


_compiled_gelu = mx.compile(_gelu)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Return the polynomial in x, highest coefficient first, by Estrin's scheme.

    It is shallow enough for one loop: MLX fuses at most 11 operations deep.
    """
    terms: list[Any] = list(reversed(coefficients))
    while len(terms) > 1:
        pairs = zip_longest(terms[::2], terms[1::2])
        terms = [low if high is None else low + high * x for low, high in pairs]
        x = x * x
    return terms[0]
