"""Where a family has two networks: MLX's, or NumPy's on x86 processors."""

import platform
from typing import Literal, TypeAlias

import mlx.core as mx

from producer.errors import InvalidSettings

Backend: TypeAlias = Literal["auto", "mlx", "numpy"]


def computes_in_numpy(dtype: mx.Dtype, backend: Backend, *, is_packed: bool = False) -> bool:
    """Return whether NumPy's network is to be used.

    Raises:
        InvalidSettings: NumPy's is asked for on a GPU, or in half precision, or of packed weights.
    """
    obstacles = {
        "MLX computes on a GPU here": mx.default_device().type == mx.gpu,
        f"{dtype} was asked for": dtype != mx.float32,
        "the weights are packed": is_packed,
    }
    found = [obstacle for obstacle, holds in obstacles.items() if holds]
    if backend == "numpy" and found:
        constraint = f"numpy computes on a CPU in float32, but {found[0]}"
        raise InvalidSettings("settings: worker.backend", constraint, backend)
    is_x86 = platform.machine() in {"x86_64", "AMD64"}
    return not found and (backend == "numpy" or (backend == "auto" and is_x86))
