"""Products, sums and attention in NumPy, shared out among threads.

NumPy's wheel brings an OpenBLAS and vectorised exp, which MLX's CPU backend lacks on x86. Each thread
multiplies on its own: NumPy's BLAS is told to start none. Numbers are float32. What is not finite is
found where logits are checked: callers silence NumPy's warnings.
"""

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.audio.blas import keep_blas_to_its_caller

# Phi(x), the normal distribution, is 1 / (1 + exp(x P(x x))). Minimax coefficients, the lowest power
# first: erf is within 6e-8 of its value, and Phi keeps its small values below zero.
GELU_P = (
    -1.59576988,
    -7.26661683e-02,
    6.51888739e-05,
    1.10612898e-04,
    -7.92959313e-06,
    2.64535828e-07,
    -3.51261975e-09,
)
# A block and what is computed of it, three times this, stay in a core's cache (2 x 1 MB L2, EPYC).
GELU_BLOCK = 1 << 16
# Fewer queries, the decoder's, are read a share of the rows a thread; more, a head at a time.
MANY_QUERIES = 32
# Scores of a block of queries stay near a core: 250 by 1500 positions are 1.5 MB.
QUERIES_PER_BLOCK = 250
# Where the highest weight of each query is this near to 0, exp needs no shift: no sum is infinite,
# and none is 0.
SAFE_EXPONENT = np.float32(60)
# More rows are faster as one product, in which the weight comes first up to some number: then the
# BLAS copies the rows instead of the weight.
FEW_ROWS = 8
MANY_ROWS = 48
# OpenBLAS multiplies few rows by few columns without copying the columns first: at most this number
# of products and of multiplications.
PRODUCTS_PER_BLOCK = 1024
MULTIPLICATIONS_PER_BLOCK = 1_000_000
# Handing work to a thread takes as long as a quarter of this.
MULTIPLICATIONS_WORTH_A_THREAD = 1 << 20

FloatArray = NDArray[np.float32]


@functools.cache
def num_cpus() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Threads:
    """The calling thread and helpers; NumPy's BLAS is to start none of its own then.

    Args:
        count: Threads in all.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._handed: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for number in range(count - 1):
            threading.Thread(target=self._help, name=f"numpy-{number}", daemon=True).start()
        keep_blas_to_its_caller()

    def _help(self) -> None:
        """Do what is handed over, in a helper's thread, for good."""
        np.seterr(all="ignore")
        while True:
            self._handed.get()()

    def run(self, compute: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> None:
        """Call `compute` with each of the arguments; an error in any thread ends all of it."""
        calls = list(calls)
        if len(calls) == 1:
            compute(*calls[0])
            return
        remaining = iter(calls)
        # A queue in C wakes a thread in half the time that a future takes.
        ended: SimpleQueue[BaseException | None] = SimpleQueue()

        def work() -> None:
            error: BaseException | None = None
            try:
                for arguments in remaining:
                    compute(*arguments)
            except BaseException as raised:  # noqa: BLE001 - it is raised again in the caller
                error = raised
            ended.put(error)

        num_helpers = min(self.count, len(calls)) - 1
        for _ in range(num_helpers):
            self._handed.put(work)
        work()
        for error in [ended.get() for _ in range(num_helpers + 1)]:
            if error is not None:
                raise error

    def shares(self, length: int, multiplications: int) -> list[slice]:
        """Return a part of a length for each thread that has enough to do."""
        count = min(self.count, max(1, multiplications // MULTIPLICATIONS_WORTH_A_THREAD))
        return blocks(length, -(-length // count))


@functools.cache
def processor_threads() -> Threads:
    """Return a thread for each processor; all networks of the process share them."""
    return Threads(num_cpus())


def blocks(length: int, size: int) -> list[slice]:
    """Return parts of a size; the last one may be shorter."""
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]


def shared(*arrays: mx.array) -> list[FloatArray]:
    """Return NumPy's view of MLX's memory, for reading and writing; it waits for what is computed."""
    mx.eval(*arrays)
    return [np.asarray(array) for array in arrays]


def product(x: FloatArray, weight: FloatArray, threads: Threads) -> FloatArray:
    """Return x weight' of (B, D) and (N, D)."""
    result = np.empty((len(x), len(weight)), np.float32)
    shares = threads.shares(len(weight), multiplications=len(x) * weight.size)
    threads.run(
        lambda share: _multiply(x, weight[share], result[:, share]), [(share,) for share in shares]
    )
    return result


def _multiply(x: FloatArray, weight: FloatArray, result: FloatArray) -> None:
    """Write x weight' to `result`; few rows one by one, or by blocks of the weight's rows."""
    if 1 < len(x) <= FEW_ROWS:
        if is_by_columns(weight):
            np.matmul(x[:, None], weight.T, out=result[:, None])
        else:
            _multiply_few(x, weight, result)
    elif len(x) <= MANY_ROWS and weight.flags.c_contiguous:
        result[:] = (weight @ x.T).T
    else:
        np.matmul(x, weight.T, out=result)


def is_by_columns(weight: FloatArray) -> bool:
    """Return whether a weight (N, D), or some of one's rows, lies column by column."""
    return weight.strides[0] < weight.strides[1]


def _multiply_few(x: FloatArray, weight: FloatArray, result: FloatArray) -> None:
    width = weight.shape[1]
    block = max(1, min(PRODUCTS_PER_BLOCK, MULTIPLICATIONS_PER_BLOCK // width) // len(x))
    whole = len(weight) // block * block
    parts = weight[:whole].reshape(-1, block, width)
    at = result[:, :whole].reshape(len(x), -1, block)
    np.matmul(x, parts.swapaxes(-1, -2), out=at.swapaxes(0, 1))
    np.matmul(x, weight[whole:].T, out=result[:, whole:])


def attention(
    q: FloatArray, k: FloatArray, v: FloatArray, unseen: FloatArray | None, threads: Threads
) -> FloatArray:
    """Return softmax(q k' + unseen) v with its heads merged, (B, T, H K).

    Args:
        q: Scaled queries, (B, H, T, K).
        k: Keys, (B, H, S, K).
        v: Values, (B, H, S, K).
        unseen: -inf where a query must not look and 0 elsewhere, broadcast to (B, H, T, S).
        threads: They share rows, or heads and blocks of many queries.
    """
    batch, heads, length, size = q.shape
    merged = np.empty((batch, length, heads, size), np.float32)
    read = merged.swapaxes(1, 2)
    if unseen is not None:
        unseen = np.broadcast_to(unseen, (batch, heads, length, k.shape[2]))

    def compute(*part: Any) -> None:
        seen = k[part[:2]].swapaxes(-1, -2), v[part[:2]]
        attend(q[part], *seen, None if unseen is None else unseen[part], read[part])

    def compute_few(rows: slice) -> None:
        # The BLAS copies a whole transposed matrix for a few rows; a few columns are copied here.
        asked = np.ascontiguousarray(q[rows].swapaxes(-1, -2))
        weights = np.ascontiguousarray((k[rows] @ asked).swapaxes(-1, -2))
        attend_by(weights, v[rows], None if unseen is None else unseen[rows], read[rows])

    if length < MANY_QUERIES:
        shares = threads.shares(batch, multiplications=q.size * k.shape[2])
        threads.run(compute if length == 1 else compute_few, [(rows,) for rows in shares])
    else:
        at = blocks(length, QUERIES_PER_BLOCK)
        threads.run(compute, itertools.product(range(batch), range(heads), at))
    return merged.reshape(batch, length, -1)


def attend(
    q: FloatArray, k: FloatArray, v: FloatArray, unseen: FloatArray | None, read: FloatArray
) -> None:
    """Write softmax(q k + unseen) v to `read` (..., T, K), for k (..., K, S) and v (..., S, K)."""
    attend_by(q @ k, v, unseen, read)


def attend_by(
    weights: FloatArray, v: FloatArray, unseen: FloatArray | None, read: FloatArray
) -> None:
    """Write softmax(weights + unseen) v to `read`; the weights (..., T, S) are overwritten."""
    if unseen is not None:
        weights += unseen
    peaks = weights.max(axis=-1, keepdims=True)
    # Each query's own: what others in the batch have is nothing to it.
    is_far = ~(np.abs(peaks) < SAFE_EXPONENT)
    if is_far.any():
        weights -= np.where(is_far, peaks, np.float32(0))
    np.exp(weights, out=weights)
    np.matmul(weights, v, out=read)
    # A product with ones takes a quarter of a sum's time.
    read /= weights @ np.ones((weights.shape[-1], 1), np.float32)


def gather(
    caches: Sequence[FloatArray], places: NDArray[np.integer[Any]], threads: Threads
) -> list[FloatArray]:
    """Return copies (B, H, N, K) of what lies at places (B, N) of each row of caches (B, H, T, K)."""
    batch, heads, length, size = caches[0].shape
    first = np.arange(0, batch * heads * length, length).reshape(batch, heads, 1)
    rows = first + places[:, None]
    gathered = [np.empty((*rows.shape, size), np.float32) for _ in caches]

    def take(cache: FloatArray, to: FloatArray) -> None:
        np.take(cache.reshape(-1, size), rows, axis=0, out=to, mode="clip")

    threads.run(take, zip(caches, gathered, strict=True))
    return gathered


def gelu(x: FloatArray) -> FloatArray:
    """Return the exact (erf) GELU of x, which is overwritten; its memory must be in one piece."""
    flat = x.reshape(-1)
    size = min(len(flat), GELU_BLOCK)
    squared, denominator = np.empty(size, np.float32), np.empty(size, np.float32)
    for part in blocks(len(flat), GELU_BLOCK):
        each = flat[part]
        _gelu(each, squared[: len(each)], denominator[: len(each)])
    return x


def _gelu(x: FloatArray, squared: FloatArray, denominator: FloatArray) -> None:
    """Compute x / (1 + exp(x P(x x))) in place, by Horner's scheme."""
    *lower, highest = map(np.float32, GELU_P)
    np.multiply(x, x, out=squared)
    np.multiply(squared, highest, out=denominator)
    for coefficient in reversed(lower[1:]):
        denominator += coefficient
        denominator *= squared
    denominator += lower[0]
    denominator *= x
    np.exp(denominator, out=denominator)
    denominator += np.float32(1)
    x /= denominator


def log_sum_exp(x: FloatArray) -> FloatArray:
    """Return log(sum(exp(x))) of (..., V), shape (..., 1); sums are made by pairs."""
    peak = x.max(axis=-1, keepdims=True)
    total: FloatArray = np.log(np.exp(x - peak).sum(axis=-1, keepdims=True)) + peak
    return total
