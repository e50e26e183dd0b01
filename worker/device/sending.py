"""Numbers on their way to the device, such as audio that was just read.

On Metal and on a CPU the device reads what the processor writes. On CUDA MLX would put the numbers
into managed memory: the processor writes it a page at a time, with a fault each, and the kernel that
reads it faults again. 30 s of audio took the engine's thread 1.4 ms, of a new size 7, and the device
0.4 (H200, tests/benchmarks/gpu/reads.py). So they go through pinned memory, which the device reads by
itself, behind what it has to do anyway.
"""

import ctypes
import functools
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.device.backend import on_cuda

Write: TypeAlias = Callable[[NDArray[np.float32]], object]
"""Writes all numbers of the memory that it is given."""

PINNED_BYTES = 256 << 20  # four batches of 32 pieces of 30 s
ALIGNMENT = 4  # numbers of 16 bytes, which a thread of the device reads at once
_THREADS = 256
# Flags of the driver's cuMemHostAlloc: for all contexts, and in the device's address space.
_PORTABLE, _MAPPED = 0x01, 0x02

# A thread copies four numbers; the last one what is left.
_READ = r"""
  const float* given = reinterpret_cast<const float*>(address[0]);
  const int64_t at = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
  if (at + 4 <= count[0]) {
    *reinterpret_cast<float4*>(numbers + at) = *reinterpret_cast<const float4*>(given + at);
  } else {
    for (int64_t each = at; each < count[0]; ++each) numbers[each] = given[each];
  }
"""


def send(numbers: NDArray[np.float32]) -> mx.array:
    """Return float32 numbers of any shape as the device's; they may change as soon as it returns."""
    ring = _ring() if on_cuda() else None
    if ring is None:
        return mx.array(numbers)
    return ring.send(numbers.shape, partial(np.copyto, src=numbers))


def send_written(shape: tuple[int, ...], write: Write) -> mx.array:
    """Return float32 numbers of a shape as the device's; written where they are sent from."""
    ring = _ring() if on_cuda() else None
    return _by_mlx(shape, write) if ring is None else ring.send(shape, write)


def _by_mlx(shape: tuple[int, ...], write: Write) -> mx.array:
    numbers = np.empty(shape, np.float32)
    write(numbers)
    return mx.array(numbers)


class PinnedRing:
    """Pinned memory that is used round and round; what the device has yet to read stays.

    Args:
        memory: That the device can read, (n,) float32.
        read: Returns the device's copy (count,) of numbers at an address, when it has time for it.
    """

    def __init__(self, memory: NDArray[np.float32], read: Callable[[int, int], mx.array]) -> None:
        self._memory, self._read = memory, read
        self._next = 0
        self._under_way: deque[tuple[int, int, mx.array]] = deque()

    def send(self, shape: tuple[int, ...], write: Write) -> mx.array:
        """Return the device's copy of numbers; what fills more than half of the ring goes MLX's way."""
        size = math.prod(shape)
        if not 0 < size <= self._memory.size // 2:
            return _by_mlx(shape, write)
        start = self._next if self._next + size <= self._memory.size else 0
        end = start + size
        self._wait_for(start, end)
        write(self._memory[start:end].reshape(shape))
        sent = self._read(self._memory.ctypes.data + start * self._memory.itemsize, size)
        mx.async_eval(sent)
        self._under_way.append((start, end, sent))
        self._next = -(-end // ALIGNMENT) * ALIGNMENT
        return sent.reshape(shape)

    def _wait_for(self, start: int, end: int) -> None:
        """Wait until the device has read what lies between two places; it reads in order."""
        while any(start < other_end and other < end for other, other_end, _ in self._under_way):
            _, _, sent = self._under_way.popleft()
            mx.eval(sent)


@functools.cache
def _ring() -> PinnedRing | None:
    """Return the process's ring; None if there is no pinned memory to be had."""
    mx.eval(mx.zeros(1))  # the driver has a context from now on
    pointer = ctypes.c_void_p()
    size, flags = ctypes.c_size_t(PINNED_BYTES), ctypes.c_uint(_PORTABLE | _MAPPED)
    code = ctypes.CDLL("libcuda.so.1").cuMemHostAlloc(ctypes.byref(pointer), size, flags)
    if code != 0 or pointer.value is None:
        return None
    numbers = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
    memory = np.ctypeslib.as_array(numbers, (PINNED_BYTES // ctypes.sizeof(ctypes.c_float),))
    return PinnedRing(memory, _read_by_device)


def _read_by_device(address: int, count: int) -> mx.array:
    """Let the device copy numbers from the host's memory, (count,)."""
    where, size = (mx.array(np.array([each], np.int64)) for each in (address, count))
    threads = -(-count // ALIGNMENT)
    numbers: mx.array
    [numbers] = _kernel()(
        inputs=[where, size],
        template=[],
        grid=(-(-threads // _THREADS) * _THREADS, 1, 1),
        threadgroup=(_THREADS, 1, 1),
        output_shapes=[(count,)],
        output_dtypes=[mx.float32],
    )
    return numbers


@functools.cache
def _kernel() -> Any:
    return mx.fast.cuda_kernel("read_host", ["address", "count"], ["numbers"], _READ)
