"""How much memory the device has, and the limits that MLX is given."""

import os

import mlx.core as mx

from worker.device.backend import on_cuda, on_gpu

# Of the machine's memory where the device does not say what it recommends: the rest is the
# system's, the page cache's and other programs'.
SHARE_OF_RAM = 0.5
SHARE_OF_GPU = 0.85
# A 16 GB Mac mini keeps 6 GB for macOS and for decoding audio, and does not swap.
SHARE_OF_UNIFIED = 0.625
# Part of the limit up to which freed buffers are kept for reuse. Without a limit MLX would keep nearly
# all memory (agent-cli#620, stenoai#465: tens of GB after hours of varied lengths). On Metal the cache
# must hold what an encoder layer frees (twenty activations), or each layer allocates anew: that churn
# has panicked M4 minis (mlx#3186). Not measured: it is about staying alive, not about speed. On CUDA it
# must hold what an encoder's batch frees, since all of it is handed over before any is done: 35 GB for
# 16 windows of turbo. Else the driver takes memory back, and the device waits meanwhile: 200 calls and
# 0.22 s of a second (H200). Nobody shares that memory.
CACHE_SHARE = 0.05
CACHE_SHARE_ON_METAL = 0.15
CACHE_SHARE_ON_CUDA = 0.5


def set_memory_limits(limit_bytes: int) -> None:
    """Set MLX's limits: total and buffer cache.

    Memory is never wired. With a wired limit MLX adds every fresh buffer to a residency set, and
    that has made macOS itself panic on M4 minis (mlx#3186), for no gain on a model that fits.
    """
    mx.set_memory_limit(limit_bytes)
    mx.set_cache_limit(int(limit_bytes * _cache_share()))


def _cache_share() -> float:
    if on_cuda():
        return CACHE_SHARE_ON_CUDA
    return CACHE_SHARE_ON_METAL if on_gpu() else CACHE_SHARE


def device_memory_bytes() -> int:
    """Return what we may use: recommended working set, or a share of the device's memory."""
    info = mx.device_info()
    if "max_recommended_working_set_size" in info:
        recommended = int(info["max_recommended_working_set_size"])
        return unified_limit_bytes(int(info["memory_size"]), recommended)
    if on_gpu():
        return int(SHARE_OF_GPU * int(info.get("total_memory") or info["memory_size"]))
    return int(SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def unified_limit_bytes(memory_bytes: int, recommended_bytes: int) -> int:
    """Return what we may use of a Mac's memory, which GPU, system and programs share."""
    return min(recommended_bytes, int(SHARE_OF_UNIFIED * memory_bytes))
