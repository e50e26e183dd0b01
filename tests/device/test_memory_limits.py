"""How much of a device's memory is ours, and the limits that MLX is given."""

import mlx.core as mx
import pytest

from worker.device import memory_limits
from worker.device.memory_limits import device_memory_bytes, set_memory_limits


@pytest.mark.parametrize(
    ("gpu", "cuda", "cache"),
    [(False, False, 50_000_000), (True, True, 500_000_000), (True, False, 150_000_000)],
)
def test_limits_are_those_of_the_plan_and_memory_is_never_wired(monkeypatch, gpu, cuda, cache):
    """Total and cache: on Metal it holds what an encoder layer frees, on CUDA what a batch does."""
    given = {}
    for name in ("set_memory_limit", "set_cache_limit", "set_wired_limit"):
        monkeypatch.setattr(mx, name, lambda size, name=name: given.update({name: size}))
    monkeypatch.setattr(memory_limits, "on_gpu", lambda: gpu)
    monkeypatch.setattr(memory_limits, "on_cuda", lambda: cuda)
    set_memory_limits(1_000_000_000)
    assert given == {"set_memory_limit": 1_000_000_000, "set_cache_limit": cache}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"max_recommended_working_set_size": 12e9, "memory_size": 16e9}, 10_000_000_000),
        ({"max_recommended_working_set_size": 48e9, "memory_size": 128e9}, 48_000_000_000),
    ],
)
def test_a_mac_keeps_memory_for_itself(monkeypatch, info, expected):
    """A 16 GB machine keeps 6 GB; a large one what the device does not recommend."""
    monkeypatch.setattr(mx, "device_info", lambda: info)
    assert device_memory_bytes() == expected
