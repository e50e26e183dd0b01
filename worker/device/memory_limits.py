"""How much memory the device has, how many rows are worth having on it, and MLX's limits."""

import os

import mlx.core as mx

from worker.device.backend import on_gpu
from worker.engine.memory_plan import MemoryPlan

# Of the machine's memory where the device does not say what it recommends: the rest is the
# system's, the page cache's and other programs'.
SHARE_OF_RAM = 0.5
SHARE_OF_GPU = 0.85
# A 16 GB Mac mini keeps 6 GB for macOS and for decoding audio, and does not swap.
SHARE_OF_UNIFIED = 0.625
# The allocator keeps freed buffers for reuse up to this share; without a limit it would keep
# nearly all memory (agent-cli#620, stenoai#465: tens of GB after hours of varied lengths).
SHARE_FOR_CACHE = 0.05
MOST_SLOTS_ON_CPU = 8
MOST_SLOTS_ON_METAL = 64  # not measured on a Mac
MOST_SLOTS_ON_CUDA = 128


def apply_memory_plan(plan: MemoryPlan) -> None:
    """Set MLX's limits: total, buffer cache and, where memory can be wired, the working set."""
    mx.set_memory_limit(plan.limit_bytes)
    mx.set_cache_limit(int(plan.limit_bytes * SHARE_FOR_CACHE))
    if mx.metal.is_available():
        # Wired memory is never paged out: this is what pins the model between jobs.
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))


def device_memory_bytes() -> int:
    """Return what we may use: recommended working set, or a share of the device's memory."""
    info = mx.device_info()
    if "max_recommended_working_set_size" in info:
        recommended = int(info["max_recommended_working_set_size"])
        return min(recommended, int(SHARE_OF_UNIFIED * int(info["memory_size"])))
    if on_gpu():
        return int(SHARE_OF_GPU * int(info.get("total_memory") or info["memory_size"]))
    return int(SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def most_slots() -> int:
    """Return how many rows are worth having, if there is memory for them."""
    if not on_gpu():
        return MOST_SLOTS_ON_CPU
    return MOST_SLOTS_ON_CUDA if mx.cuda.is_available() else MOST_SLOTS_ON_METAL
