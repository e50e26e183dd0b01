"""The device that MLX computes on: its dtype, its environment, and how it says that memory is short."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from producer.errors import DeviceLost, OutOfMemory

Result = TypeVar("Result")

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
# How MLX's allocators say that there is no room, on Metal, CUDA and the CPU.
OUT_OF_MEMORY_WORDS = ("malloc", "alloc", "out of memory", "insufficient memory")
# How Metal says that the GPU was stopped (timeout, hang, "impacting interactivity") or is gone; MLX
# throws it at the next use of the device, whichever that is.
DEVICE_LOST_WORDS = ("command buffer execution failed", "device removed", "device was removed")


def on_gpu() -> bool:
    """Return whether MLX computes on Metal or CUDA."""
    return bool(mx.default_device().type == mx.gpu)


@functools.cache
def on_cuda() -> bool:
    """Return whether MLX computes on CUDA."""
    return bool(mx.cuda.is_available() and mx.default_device().type == mx.gpu)


def choose_dtype(name: str) -> mx.Dtype:
    """Return the asked dtype; `auto` is float16 on a GPU and float32 on a CPU, where half is slow."""
    return DTYPES[name] if name != "auto" else (mx.float16 if on_gpu() else mx.float32)


def dtype_name(dtype: mx.Dtype) -> str:
    """Return the name that settings and results use."""
    return str(dtype).rsplit(".", 1)[-1]


def set_up_metal(platform: str = sys.platform) -> None:
    """Set what MLX reads from the environment before it computes on Metal for the first time.

    An M5 would multiply float32 with eleven bits, and one row otherwise than many: a window alone
    and in a batch would differ, in float16 too, where vocabulary and log-mel are float32 on purpose.
    """
    if platform == "darwin":
        os.environ.setdefault("MLX_ENABLE_TF32", "0")


def refuse_cuda_graphs() -> None:
    """Let MLX launch kernels one by one, in their order, whatever the environment says.

    The host is done sooner: a step of turbo with 192 rows is handed over in 1.34 ms, and in 1.64 ms
    as a graph; Parakeet in batches of 64 does 9,300 times real time, and 7,600 (H200, mlx 0.32.4).
    And the kernel that writes to caches where they are (worker/models/whisper/cuda/attention.py)
    may rely on the order.
    """
    os.environ["MLX_USE_CUDA_GRAPHS"] = "0"


# Here, and not where a model is loaded: MLX keeps what it read when it first computed, and `doctor`
# multiplies before there is a model.
set_up_metal()
refuse_cuda_graphs()


def set_up_cuda(dtype: mx.Dtype) -> None:
    """Set what MLX reads from the environment before it computes on CUDA for the first time."""
    # It would stop for good after 800 sequences of kernels that it had not seen before; those that
    # it keeps are bounded all the same (mlx 0.32, lru_cache.h; ml-explore/mlx#2600).
    os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
    if dtype == mx.float32:
        # It would multiply in TF32, with ten bits; float32 is asked for its exactness.
        os.environ.setdefault("MLX_ENABLE_TF32", "0")


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn MLX's ways of saying that memory is short, or the GPU gone, into errors of ours.

    Raises:
        OutOfMemory: there was no room; fewer rows or requests may fit.
        DeviceLost: the GPU was stopped or went away; only a new process gets a fresh one.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error).lower()
        if any(word in said for word in OUT_OF_MEMORY_WORDS):
            raise OutOfMemory("device", "must have room for the batch", str(error)) from error
        if any(word in said for word in DEVICE_LOST_WORDS):
            raise DeviceLost("device", "must finish what it was given", str(error)) from error
        raise


def with_translated_errors(parts: Generator[None, None, Result]) -> Generator[None, None, Result]:
    """Return the same generator, whose errors are translated."""
    while True:
        with translated_errors():
            try:
                next(parts)
            except StopIteration as ended:
                result: Result = ended.value
                return result
        yield


@functools.cache
def uploaded(make: Callable[..., NDArray[np.float32]], *sizes: int) -> mx.array:
    """Return what a function makes of some sizes as an array that goes to the device once."""
    return mx.array(make(*sizes))


def started_stack(arrays: list[mx.array]) -> mx.array:
    """Return arrays as rows, evaluated separately: how many there are varies, see `Decoder`."""
    stacked = mx.stack(arrays)
    mx.async_eval(stacked)
    return stacked
