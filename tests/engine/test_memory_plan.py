"""How many rows and batched requests fit beside a model: arithmetic over its needs."""

from dataclasses import replace

import pytest

from producer.errors import OutOfRange
from worker.engine.memory_plan import MemoryNeeds, plan_memory
from worker.engine.times import RECEIVE_S, UNMEASURED, Times

# tiny.en's, about.
NEEDS = MemoryNeeds(
    weights_bytes=230_000_000,
    row_bytes=10_000_000,
    request_bytes=28_000_000,
    window_bytes=15_000_000,
)
MOST_SLOTS = UNMEASURED.slots
# Twice as many rows or windows take hardly longer.
FAST = Times(
    encode_s=tuple((1 << n, 0.01 + 0.001 * n) for n in range(6)),
    step_s=tuple((1 << n, 0.002 + 0.0001 * n) for n in range(9)),
    steps=100,
    patience_steps=16,
)


def plan(limit_bytes, slots="auto", times=None):
    return plan_memory(NEEDS, limit_bytes, slots, times)


def test_slots_are_the_most_that_fit():
    """More memory never gives fewer; the plan stays below its limit and is sure to use it."""
    slots = []
    for limit_bytes in (500_000_000, 600_000_000, 800_000_000, 2_000_000_000, 10**12):
        chosen = plan(limit_bytes)
        assert chosen.needed_bytes <= limit_bytes
        if chosen.slots < MOST_SLOTS:
            assert plan(10**12, chosen.slots * 2).needed_bytes > limit_bytes
        slots.append(chosen.slots)
    assert slots == sorted(slots)
    assert len(set(slots)) > 1
    assert slots[-1] == MOST_SLOTS


@pytest.mark.parametrize(("slots", "batch_size"), [(1, 1), (8, 2), (64, 8), (128, 16), (256, 32)])
def test_batches_grow_with_the_slots_asked_for(slots, batch_size):
    """As many as come together while rows are stepped, if that gains anything; unmeasured one."""
    assert plan(10**12, slots, FAST).batch_size == batch_size
    assert plan(10**12, slots).batch_size == 1


def test_measured_times_are_followed_as_far_as_there_is_memory():
    """A device for which more is always better takes all that fits, windows and batch together."""
    chosen = [plan(gb * 10**9, times=FAST) for gb in (1, 2, 4, 8, 100)]
    assert [each.slots for each in chosen] == [12, 32, 64, 128, 256]
    for each in chosen:
        assert each.needed_bytes <= each.limit_bytes
    assert (chosen[-1].batch_size, chosen[-1].steps_ahead) == (32, 2)


@pytest.mark.parametrize(
    ("window_s", "processes", "wanted"),
    [
        (0.1, 0, None),
        (0.05, 0, 1),
        (0.0064, 0, 8),
        (0.0064, 7, 8),
        (0.0064, 8, None),
        (None, 0, None),
    ],
)
def test_a_device_faster_than_its_readers_says_how_many_it_needs(window_s, processes, wanted):
    """Only where it was measured: ten windows a second for threads, twenty for each process."""
    advice = replace(plan(10**12, times=FAST), window_s=window_s).advice_on_reading(processes)
    if wanted is None:
        assert advice is None
    else:
        assert f"audio.processes = {wanted}," in advice
        assert f"takes {1 / window_s:.0f} windows" in advice


def test_a_plan_knows_what_a_window_takes():
    """From what was measured, with the sizes that are chosen."""
    chosen = plan(10**12, times=FAST)
    assert chosen.window_s == FAST.window_s(chosen.slots, chosen.batch_size)
    assert chosen.receiving_s == FAST.receiving_s(chosen.batch_size) > RECEIVE_S
    assert plan(10**12).window_s is None
    assert plan(10**12).receiving_s == RECEIVE_S


def test_slots_that_do_not_fit_are_refused_with_the_arithmetic():
    """Before a batch is made, with every summand."""
    with pytest.raises(
        OutOfRange,
        match=r"weights 0\.23 GB \+ 2 x \(64 windows x 0\.01 GB \+ 64 rows x .*\) .* of 0\.50 GB",
    ) as got:
        plan(500_000_000, slots=64)
    assert got.value.value == 64


def test_a_model_that_does_not_fit_at_all_is_refused():
    """Not even one slot is left."""
    with pytest.raises(OutOfRange, match="must fit into memory"):
        plan(100_000_000)


def test_a_model_without_rows_is_planned_by_its_batches():
    """A family without a stepper has rows of no bytes."""
    times = Times(encode_s=((1, 1.0), (2, 1.1), (4, 1.2)))
    chosen = plan_memory(MemoryNeeds(1000, 0, 100), 1200, "auto", times)
    assert (chosen.slots, chosen.batch_size, chosen.needed_bytes) == (2, 2, 1200)


def test_beams_and_samples_are_planned_beside_the_windows():
    """Five rows a slot where there is memory, fewer where there is not, never fewer slots for them."""
    wide = plan(10**12)
    assert (wide.slots, wide.rows) == (MOST_SLOTS, 5 * MOST_SLOTS)
    for limit_bytes in range(500_000_000, 1_500_000_000, 70_000_000):
        chosen = plan(limit_bytes)
        assert chosen.slots <= chosen.rows <= 5 * chosen.slots
        assert chosen.needed_bytes <= limit_bytes
        if chosen.rows < 5 * chosen.slots:
            assert chosen.needed_bytes + 2 * NEEDS.row_bytes > limit_bytes
    tight = plan(660_000_000)
    assert (tight.slots, tight.rows) == (8, 8)
    assert f"{tight.slots} windows x 0.01 GB + {tight.rows} rows x 0.01 GB" in str(tight)


def test_a_default_search_has_its_rows_before_a_second_window_has_a_slot():
    """Half the slots, and five rows; where not even one window has room for five, as many as fit."""
    for limit_bytes in range(350_000_000, 600_000_000, 10_000_000):
        chosen = plan(limit_bytes)
        assert chosen.needed_bytes <= limit_bytes
        assert chosen.rows >= min(5, plan(limit_bytes, slots=1).rows)


def test_slots_that_are_asked_for_have_rows_beside_them_too():
    """As many as fit; a window alone may have five."""
    assert plan(10**12, slots=1).rows == 5
    assert plan(10**12, slots=3).rows == 15
