"""The device that MLX computes on: its dtype, its environment, and how it says that memory is short."""

import contextlib
import os
from collections.abc import Iterator

import mlx.core as mx

from producer.errors import OutOfMemory

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
# How MLX's allocators say that there is no room, on Metal, CUDA and the CPU.
OUT_OF_MEMORY_WORDS = ("malloc", "alloc", "out of memory", "insufficient memory")


def on_gpu() -> bool:
    """Return whether MLX computes on Metal or CUDA."""
    return bool(mx.default_device().type == mx.gpu)


def choose_dtype(name: str) -> mx.Dtype:
    """Return the asked dtype; `auto` is float16 on a GPU and float32 on a CPU, where half is slow."""
    return DTYPES[name] if name != "auto" else (mx.float16 if on_gpu() else mx.float32)


def dtype_name(dtype: mx.Dtype) -> str:
    """Return the name that settings and results use."""
    return str(dtype).rsplit(".", 1)[-1]


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
    """Turn MLX's way of saying that memory is short into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not any(word in str(error).lower() for word in OUT_OF_MEMORY_WORDS):
            raise
        raise OutOfMemory("device", "must have room for the batch", str(error)) from error


def started_stack(arrays: list[mx.array]) -> mx.array:
    """Return arrays as rows, evaluated separately: how many there are varies, see `Decoder`."""
    stacked = mx.stack(arrays)
    mx.async_eval(stacked)
    return stacked
