"""What this machine is, and how fast it multiplies."""

import importlib.metadata
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import threadpoolctl

from producer.settings import Settings
from worker.device.backend import choose_dtype, on_gpu
from worker.models.backend import computes_in_numpy
from worker.models.numpy_math import num_cpus, processor_threads, product

MATMUL_S = 0.5


def matmul_gflops(
    settings: Settings, rows: int = 1500, inner: int = 512, columns: int = 512
) -> float:
    """Return the speed of a product as the encoder has them, in float32, by the BLAS in use.

    Raises:
        InvalidSettings: the backend asked for cannot work here.
    """
    multiply = _multiplication(settings, (rows, inner), (inner, columns))
    multiply()
    started, repeats = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < MATMUL_S or not repeats:
        multiply()
        repeats += 1
    return 2 * rows * inner * columns * repeats / elapsed / 1e9


def _multiplication(
    settings: Settings, left: tuple[int, int], right: tuple[int, int]
) -> Callable[[], object]:
    """Return what multiplies two random matrices, in NumPy with its threads or in MLX."""
    if not _is_in_numpy(settings):
        a, b = mx.random.normal(left), mx.random.normal(right)
        return lambda: mx.eval(a @ b)
    generator, threads = np.random.default_rng(0), processor_threads()
    x = generator.standard_normal(left, np.float32)
    weight = generator.standard_normal(right, np.float32).T
    return lambda: product(x, weight, threads)


def machine() -> dict[str, Any]:
    """Return what the figures depend on, as JSON types; names of hosts stay out."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "device": str(mx.device_info()["device_name"]),
        "backend": backend(),
        "num_cpus": num_cpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def versions() -> dict[str, str]:
    """Return the versions of what does the work."""
    packages = ("scribefarm", "mlx", "numpy", "soundfile", "soxr", "av")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}


def backend() -> str:
    """Return where MLX computes: Metal, CUDA or CPU."""
    if not on_gpu():
        return "CPU"
    return "Metal" if mx.metal.is_available() else "CUDA"


def blas_library(settings: Settings) -> str:
    """Return which library multiplies matrices; a GPU's backend brings its own.

    Raises:
        InvalidSettings: the backend asked for cannot work here.
    """
    if _is_in_numpy(settings):
        libraries = threadpoolctl.threadpool_info()
        found = [each for each in libraries if "numpy" in each["filepath"]]
        return f"NumPy's {found[0]['internal_api']} {found[0]['version']}" if found else "NumPy's"
    if on_gpu():
        return "the GPU's own"
    return "Accelerate" if sys.platform == "darwin" else "reference BLAS of MLX's wheel"


def _is_in_numpy(settings: Settings) -> bool:
    return computes_in_numpy(choose_dtype(settings.model.dtype), settings.worker.backend)


def peak_resident_bytes() -> int:
    """Return the most memory that this process has had at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
