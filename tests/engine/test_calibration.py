"""What is measured of a device, and how much at once is chosen by it: devices given by formulas."""

import pytest

from producer.errors import OutOfMemory
from tests.stage.fake_device import FakeDevice
from worker.cli.expected_speed import MODELS, chip_of, encode_s, step_s
from worker.engine import calibration
from worker.engine.calibration import BUDGET_S, COMPILING_S, GAIN, LONGEST_BATCH_S, measure
from worker.engine.times import TOLERANCE, Sizes

TURBO = MODELS["large-v3-turbo"]
M4 = chip_of("Apple M4", 10)


def h100(**more):
    """A fast GPU as it was measured with large-v3-turbo: 3.1 and 5.1 ms at 128 and 256 rows."""
    return FakeDevice(
        encode_s=lambda count: 0.0015 + count / 190,
        step_s=lambda rows: 0.0011 + 15.6e-6 * rows,
        host_s=0.0022,
        **more,
    )


def m4(**more):
    """A small Mac: arithmetic over its figures; batches gain nothing."""
    return FakeDevice(
        encode_s=lambda count: count * encode_s(M4, TURBO),
        step_s=lambda rows: step_s(M4, TURBO, rows),
        host_s=0.002,
        **more,
    )


def two_cores(**more):
    """A processor whose host computes in the device's place: nothing is hidden."""
    return FakeDevice(
        encode_s=lambda count: 0.3 * count,
        step_s=lambda rows: 0.006 + 0.0012 * rows,
        host_s=0.0005,
        hides=False,
        **more,
    )


def everything(_slots, _batch):
    return True


def times_of(device, fits=everything, *, has_rows=True, compiles=False):
    times, is_complete = measure(
        device.rehearsal(has_rows=has_rows), fits, compiles=compiles, clock=device.clock
    )
    assert is_complete
    return times


def window_s(device, slots, batch):
    """Return what a window really takes of a device."""
    pace = device.step_s(slots) if not device.hides else max(device.step_s(slots), device.host_s)
    pace += 0 if device.hides else device.host_s
    return device.encode_s(batch) / batch + device.steps * pace / slots


@pytest.mark.parametrize(
    ("make", "compiles", "chosen"),
    [
        (h100, True, Sizes(slots=256, batch_size=16, steps_ahead=2)),
        (m4, True, Sizes(slots=8, batch_size=1, steps_ahead=1)),
        (two_cores, False, Sizes(slots=32, batch_size=1, steps_ahead=0)),
    ],
)
def test_each_device_gets_its_own(make, compiles, chosen):
    """A window with what is chosen takes hardly longer than with the best of all."""
    device = make()
    times = times_of(device, compiles=compiles)
    assert times.choose(everything) == chosen
    best = min(
        window_s(device, slots, batch)
        for slots in range(1, 513)
        for batch in range(1, 1 + times.most_together(slots))
    )
    assert window_s(device, chosen.slots, chosen.batch_size) < (1 + 2 * TOLERANCE) * best


@pytest.mark.parametrize(("make", "compiles"), [(h100, True), (m4, True), (two_cores, False)])
def test_measuring_takes_seconds(make, compiles):
    """The budget, and what was begun within it."""
    device = make()
    times_of(device, compiles=compiles)
    assert device.now < BUDGET_S + LONGEST_BATCH_S


def test_a_window_that_takes_longer_than_the_budget_is_encoded_once():
    """Two numbers of rows are still measured, from which the others follow."""
    device = FakeDevice(encode_s=lambda count: 40.0 * count, step_s=lambda rows: 1 + 0.1 * rows)
    times = times_of(device)
    assert device.sizes == [1, 1]
    assert [size for size, _ in times.step_s] == [1, 2]
    assert times.bound == "time"
    assert times.step_of(8) == pytest.approx(1.8)
    assert times.choose(everything).slots == 8


def test_compiling_is_not_of_the_budget_and_is_never_measured():
    """A first run of each size takes seconds; what is chosen is as if it took none."""
    slow, warm = h100(compile_s=2.0), h100()
    assert times_of(slow, compiles=True).choose(everything) == times_of(warm, compiles=True).choose(
        everything
    )
    assert slow.now > warm.now + 20


@pytest.mark.parametrize("run", range(0, 300, 7))
def test_a_run_that_waits_for_seconds_costs_no_sizes(run):
    """Such as one for which the driver frees memory, where kernels are compiled, too."""
    waiting, quiet = h100(disturbed={run: 8.0}), h100()
    found, wanted = (times_of(device, compiles=True) for device in (waiting, quiet))
    assert [size for size, _ in found.encode_s] == [size for size, _ in wanted.encode_s]
    assert [size for size, _ in found.step_s] == [size for size, _ in wanted.step_s]


def test_what_compiling_cut_short_is_said_to_be_so():
    """It is not kept: the next start has the kernels."""
    device = h100(compile_s=30.0)
    times, is_complete = measure(device.rehearsal(), everything, compiles=True, clock=device.clock)
    assert not is_complete
    assert times.choose(everything).slots >= 1
    assert device.now < COMPILING_S + 4 * 30.0


@pytest.mark.parametrize("first", range(0, 80, 4))
def test_a_busy_machine_does_not_choose_absurdly(first):
    """Whenever other programs come, for as long as ten runs: few per cent are lost, or none."""
    device = h100(disturbed=dict.fromkeys(range(first, first + 10), 0.05))
    chosen = times_of(device, compiles=True).choose(everything)
    quiet = h100()
    assert window_s(quiet, chosen.slots, chosen.batch_size) < 1.2 * window_s(quiet, 256, 16)


def test_rows_that_end_meanwhile_are_replaced():
    """A transducer's rows last as long as their piece: a step of fewer rows is not the one asked."""
    lasting, endless = times_of(two_cores(rows_last=7)), times_of(two_cores())
    both = set(dict(lasting.step_s)) & set(dict(endless.step_s))
    assert len(both) >= 6
    for rows in both:
        assert lasting.step_of(rows) == pytest.approx(endless.step_of(rows))


def test_nothing_is_tried_that_does_not_fit():
    """By the plan; a device that has less room than planned ends the measuring, not the start."""
    device = h100()
    planned = times_of(device, lambda slots, batch: slots <= 64 and batch <= 2, compiles=True)
    assert (planned.step_s[-1][0], max(device.sizes), planned.bound) == (64, 2, "memory")
    full = times_of(h100(max_rows=20), compiles=True)
    assert (full.step_s[-1][0], full.bound) == (16, "memory")


def test_a_device_without_room_for_one_row_says_so():
    with pytest.raises(OutOfMemory):
        times_of(h100(max_rows=0), compiles=True)


def test_a_batch_holds_the_engines_thread_for_three_seconds_at_most(monkeypatch):
    """Even if larger ones would gain, and there were time to measure them."""
    monkeypatch.setattr(calibration, "BUDGET_S", 100.0)
    device = FakeDevice(lambda count: 0.2 + 0.3 * count, lambda rows: 0.01)
    assert times_of(device, compiles=True).encode_s[-1] == (8, pytest.approx(2.6))
    assert all(device.encode_s(size) <= LONGEST_BATCH_S for size in device.sizes)


def test_a_family_without_a_stepper_is_measured_by_its_batches():
    """It holds as many recordings as a batch takes."""
    times = times_of(h100(), has_rows=False, compiles=True)
    assert times.step_s == ()
    chosen = times.choose(everything)
    assert chosen.slots == chosen.batch_size == 8
    assert times.window_s(8, 8) <= (1 + GAIN) * times.window_s(32, 32)
