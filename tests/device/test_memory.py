"""How many windows fit beside the model, and the limits that MLX is given."""

import mlx.core as mx
import pytest

from producer.errors import OutOfRange
from producer.settings import WorkerSettings
from tests.stage.tiny_models import tiny_dimensions
from worker.device import memory
from worker.device.memory import apply_memory_plan, device_memory_bytes, plan_memory

DIMS = tiny_dimensions(width=384, heads=6, layers=4)
WEIGHTS_BYTES = 150_000_000


def plan(limit_bytes, slots="auto"):
    settings = WorkerSettings(slots=slots, memory_limit_bytes=limit_bytes)
    return plan_memory(DIMS, WEIGHTS_BYTES, 4, settings)


def test_slots_are_the_most_that_fit():
    """More memory never gives fewer; the plan stays below its limit and is sure to use it."""
    most = 8 if mx.default_device() == mx.cpu else memory._most_slots()
    slots = []
    for limit_bytes in (500_000_000, 600_000_000, 800_000_000, 2_000_000_000, 10**12):
        chosen = plan(limit_bytes)
        assert chosen.needed_bytes <= limit_bytes
        if chosen.slots < most:
            assert plan(10**12, chosen.slots * 2).needed_bytes > limit_bytes
        slots.append(chosen.slots)
    assert slots == sorted(slots)
    assert len(set(slots)) > 1
    assert slots[-1] == most


@pytest.mark.parametrize(("slots", "encode_batch"), [(1, 1), (8, 1), (64, 8), (128, 16), (256, 16)])
def test_windows_are_encoded_in_batches_that_grow_with_the_slots_up_to_sixteen(slots, encode_batch):
    assert plan(10**12, slots).encode_batch == encode_batch


def test_slots_that_do_not_fit_are_refused_with_the_arithmetic():
    """Before anything is loaded, with every summand."""
    with pytest.raises(
        OutOfRange, match=r"weights 0\.23 GB \+ 2 x 64 rows x .* of 0\.50 GB"
    ) as got:
        plan(500_000_000, slots=64)
    assert got.value.value == 64


def test_a_model_that_does_not_fit_at_all_is_refused():
    """Not even one slot is left."""
    with pytest.raises(OutOfRange, match="must fit into memory"):
        plan(100_000_000)


def test_the_arithmetic_counts_what_a_decode_really_holds():
    """A row's cache of tiny.en: keys and values of 448 tokens and 1,500 audio positions."""
    cache_bytes = 2 * (448 + 1500) * 384 * 4 * 4
    chosen = plan(10**12, slots=4)
    assert cache_bytes <= chosen.row_bytes <= 1.2 * cache_bytes
    assert chosen.needed_bytes > WEIGHTS_BYTES + 2 * 4 * cache_bytes


def test_limits_are_those_of_the_plan_and_memory_is_wired_where_it_can_be(monkeypatch):
    """Total and cache everywhere; on Metal the working set that the device recommends."""
    given = {}
    for name in ("set_memory_limit", "set_cache_limit", "set_wired_limit"):
        monkeypatch.setattr(mx, name, lambda size, name=name: given.update({name: size}))
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    apply_memory_plan(plan(1_000_000_000))
    assert given == {"set_memory_limit": 1_000_000_000, "set_cache_limit": 50_000_000}
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 12_000})
    apply_memory_plan(plan(1_000_000_000))
    assert given["set_wired_limit"] == 12_000


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
