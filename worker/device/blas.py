"""Use an optimised BLAS on Linux where Debian has one installed.

MLX's CPU wheel links the reference BLAS: a 1500x512x512 matmul takes 401 ms with it and 5 ms with
OpenBLAS (2 cores). Both export the same symbols, so preloading OpenBLAS is all it takes. macOS
has Accelerate, and Metal does not use BLAS at all.
"""

import os
import platform
import sys
from pathlib import Path

import structlog

# Set to anything to keep the BLAS that MLX was linked with.
OPT_OUT_VARIABLE = "NO_BLAS_PRELOAD"

# Debian's variants, the fastest for us first; `libopenblas0` depends on the first one.
_VARIANTS = ("openblas-pthread", "openblas-openmp", "openblas-serial")

# OpenBLAS's threads wait for work in a loop, for 2**26 cycles unless told otherwise, and take the
# processor from NumPy's (worker/device/cpu_math.py). The shortest time it knows:
_WAIT = {"OPENBLAS_THREAD_TIMEOUT": "4"}

_log = structlog.get_logger()


def preload() -> None:
    """Start this program again with OpenBLAS in LD_PRELOAD, if there is one and nothing is set.

    Must come before `mlx` is imported: the loader reads the variable only at the start.
    """
    library = find_openblas()
    wanted = sys.platform == "linux" and OPT_OUT_VARIABLE not in os.environ
    if not wanted or library is None or os.environ.get("LD_PRELOAD"):
        return
    environment = _WAIT | os.environ | {"LD_PRELOAD": str(library)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - no shell wanted


def log_choice() -> None:
    """Say which library was preloaded, once the log knows its format."""
    if library := os.environ.get("LD_PRELOAD"):
        _log.info("blas_preloaded", library=library, opt_out=OPT_OUT_VARIABLE)


def find_openblas(root: Path = Path("/usr/lib")) -> Path | None:
    """Return Debian's OpenBLAS for this machine's architecture, if it is installed."""
    folder = root / f"{platform.machine()}-linux-gnu"
    candidates = [folder / variant / "libopenblas.so.0" for variant in _VARIANTS]
    return next((library for library in candidates if library.is_file()), None)
