"""What MLX's CPU backend does slowly on x86, done by NumPy and by loops that a compiler vectorises.

MLX computes exp, erf and sums there one element at a time on one core, and multiplies few rows by
a matrix only after it has copied the matrix. NumPy has vector instructions and a BLAS of its own;
its arrays share MLX's memory. All take float32 and, but for `gelu`, wait for their result. What is
not finite is found where logits are checked, and not warned of here. Metal, CUDA and Arm have fast
kernels and do not come here.
"""

import contextlib
import functools
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product, zip_longest
from typing import Any

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
# More rows are faster as MLX multiplies them.
FEW_ROWS = 8
# OpenBLAS multiplies so few rows times so few columns without copying the columns first.
PRODUCTS_PER_BLOCK = 1024

ALL = slice(None)

FloatArray = NDArray[np.float32]


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
    """Counts the seconds that this module computes, and waits for what it computes on.

    Attributes:
        total_s: So far.
    """

    def __init__(self) -> None:
        self.total_s = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.total_s += time.perf_counter() - started


stopwatch = Stopwatch()


@stopwatch.running()
def attention(q: mx.array, k: mx.array, v: mx.array, *, is_causal: bool = False) -> mx.array:
    """Return softmax(q k' / sqrt(K)) v for (B, H, T, K); if causal, for q as long as k."""
    queries, keys, values = _shared(q, k, v)
    batch, heads, length, size = queries.shape
    # Laid out for the heads to be merged without a copy.
    read = np.empty((batch, length, heads, size), np.float32).swapaxes(1, 2)
    # Positions after a query's own lose all weight.
    mask = np.triu(np.full((length, length), -np.inf, np.float32), 1) if is_causal else None

    def attend(rows: slice, head: slice, block: slice) -> None:
        part, own = (rows, head), (rows, head, block)
        unseen = None if mask is None else mask[block]
        _attend(queries[own], keys[part], values[part], unseen, read[own])

    if length < MANY_QUERIES:
        _in_threads(attend, [(rows, ALL, ALL) for rows in _shares(batch)])
    else:
        blocks = _blocks(length, QUERIES_PER_BLOCK)
        _in_threads(attend, list(product(_blocks(batch, 1), _blocks(heads, 1), blocks)))
    return mx.array(read.swapaxes(1, 2)).swapaxes(1, 2)


def _attend(
    q: FloatArray, k: FloatArray, v: FloatArray, mask: FloatArray | None, read: FloatArray
) -> None:
    """Write the attention of queries (..., T, K) to `read`; the mask is added to their scores."""
    with np.errstate(all="ignore"):
        weights = (q * np.float32(q.shape[-1] ** -0.5)) @ k.swapaxes(-1, -2)
        if mask is not None:
            weights += mask
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        np.divide(weights @ v, weights.sum(axis=-1, keepdims=True), out=read)


@stopwatch.running()
def project(x: mx.array, weight: mx.array, transposed: mx.array) -> mx.array:
    """Return x weight' of at most `FEW_ROWS` rows (B, D), for a tall weight (N, D).

    Args:
        x: The rows.
        weight: Blocks of it multiply several rows.
        transposed: The same, (D, N): OpenBLAS reads it faster for a single row.
    """
    rows, tall, wide = _shared(x, weight, transposed)
    projected = np.empty((len(rows), len(tall)), np.float32)

    def project_share(share: slice) -> None:
        with np.errstate(all="ignore"):
            if len(rows) == 1:
                np.matmul(rows, wide[:, share], out=projected[:, share])
            else:
                _project(rows, tall[share], projected[:, share])

    _in_threads(project_share, [(share,) for share in _shares(len(tall))])
    return mx.array(projected)


def _project(x: FloatArray, weight: FloatArray, projected: FloatArray) -> None:
    """Write x weight' to `projected`, a block of the weight's rows at a time."""
    block = PRODUCTS_PER_BLOCK // len(x)
    whole = len(weight) // block * block
    blocks = weight[:whole].reshape(-1, block, weight.shape[1])
    at = projected[:, :whole].reshape(len(x), -1, block)
    np.matmul(x, blocks.swapaxes(-1, -2), out=at.swapaxes(0, 1))
    np.matmul(x, weight[whole:].T, out=projected[:, whole:])


@stopwatch.running()
def log_sum_exp(x: mx.array) -> mx.array:
    """Return log(sum(exp(x))) of (B, V), shape (B, 1).

    NumPy sums by pairs. MLX's CPU backend adds one by one, so that over 50,000 tokens the float32
    sum loses its tail: log-probabilities came out 4e-4 too high.
    """
    [rows] = _shared(x)
    with np.errstate(all="ignore"):
        peak = rows.max(axis=-1, keepdims=True)
        return mx.array(np.log(np.exp(rows - peak).sum(axis=-1, keepdims=True)) + peak)


def _shared(*arrays: mx.array) -> tuple[FloatArray, ...]:
    """Return what MLX computes, in the memory that it lies in."""
    mx.eval(*arrays)
    return tuple(np.asarray(array) for array in arrays)


def _shares(length: int) -> list[slice]:
    """Return a part for each processor."""
    return _blocks(length, -(-length // num_cpus()))


def _blocks(length: int, size: int) -> list[slice]:
    """Return parts of a size; the last one may be shorter."""
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def _in_threads(run: Callable[..., None], calls: list[tuple[slice, ...]]) -> None:
    """Call `run` with each of the arguments, in this thread and in helping ones."""
    remaining = iter(calls)

    def work() -> None:
        for arguments in remaining:
            run(*arguments)

    helping = [_helpers().submit(work) for _ in range(min(num_cpus(), len(calls)) - 1)]
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
