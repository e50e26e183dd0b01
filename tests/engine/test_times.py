"""From what a device takes to how much at once: the arithmetic, without a device."""

import pytest

from worker.engine.times import MOST_SIZE, RECEIVE_S, Times, rising

TIMES = Times(
    encode_s=((1, 1.0), (2, 1.8), (4, 3.5)),
    step_s=((1, 0.010), (2, 0.012), (4, 0.016), (8, 0.024)),
    host_s=(0.001, 0.001, 0.002, 0.002),
    steps=100,
    patience_steps=16,
)


def test_a_window_takes_its_part_of_a_batch_and_of_the_steps():
    assert TIMES.window_s(4, 2) == pytest.approx(1.8 / 2 + 100 * 0.016 / 4)


def test_between_the_measured_sizes_times_rise_evenly():
    """Beyond the last one, too."""
    assert [TIMES.step_of(rows) for rows in (3, 6, 16)] == pytest.approx([0.014, 0.020, 0.040])


def test_what_took_longer_than_a_larger_size_was_disturbed():
    assert rising([(1, 0.010), (2, 0.5), (4, 0.016)]) == ((1, 0.010), (2, 0.016), (4, 0.016))


def test_slots_that_are_asked_for_are_taken():
    """Batch and steps ahead follow from them; what does not fit is none."""
    assert TIMES.choose(lambda *_: True, slots=5).slots == 5
    assert TIMES.choose(lambda slots, _: slots < 5, slots=5) is None
    assert TIMES.choose(lambda slots, _: slots < 5).slots == 4


def test_a_batch_is_no_larger_than_what_comes_together():
    """Rows that end while the oldest request waits."""
    assert [TIMES.most_together(slots) for slots in (1, 6, 8, 100)] == [1, 1, 2, 17]


@pytest.mark.parametrize(("unhidden_s", "ahead"), [(0.010, 0), (0.0107, 1), (None, 1)])
def test_steps_run_ahead_where_they_hide_the_hosts_work(unhidden_s, ahead):
    """NumPy computes in the host's own time: a step ahead would only be one more at each end."""
    times = Times(**vars(TIMES) | {"unhidden_s": unhidden_s})
    assert times.steps_ahead(8) == ahead


@pytest.mark.parametrize(
    ("encode_s", "batch"),
    [
        (((1, 0.030), (2, 0.0599), (4, 0.119)), 2),  # 4 would be longer than a short batch
        (((1, 0.300), (2, 0.550), (4, 1.000)), 4),  # whatever gains is taken
        (((1, 0.200), (2, 0.399), (4, 0.798)), 1),  # none is short
    ],
)
def test_short_batches_are_enlarged_where_it_costs_the_device_nothing(encode_s, batch):
    """Each takes the host some milliseconds to hand over; long ones hold the device, too."""
    times = Times(**vars(TIMES) | {"encode_s": encode_s, "patience_steps": 100})
    assert times.choose(lambda *_: True, slots=8).batch_size == batch


def test_behind_a_batch_there_is_half_of_its_time_for_audio():
    """Where the device goes on while the host works, and never less than between steps."""
    times = Times(**vars(TIMES) | {"encode_s": ((1, 0.001), (4, 0.080)), "unhidden_s": None})
    assert [times.receiving_s(size) for size in (1, 4)] == [RECEIVE_S, 0.040]
    in_the_hosts_place = Times(**vars(times) | {"unhidden_s": 0.010})
    assert in_the_hosts_place.receiving_s(4) == RECEIVE_S


def test_a_device_that_waits_for_the_host_goes_on_while_it_works():
    """Steps under way gain nothing where handing one over takes as long as the step; audio must flow."""
    host_bound = Times(**vars(TIMES) | {"unhidden_s": 0.010, "host_s": (0.009,) * 4})
    assert host_bound.hides_host
    assert host_bound.receiving_s(4) == 1.75
    assert host_bound.steps_ahead(8) == 1


@pytest.mark.parametrize(("step_s", "ahead"), [(0.0005, 5), (0.002, 3), (0.003, 2), (0.02, 1)])
def test_short_steps_need_more_of_them_under_way(step_s, ahead):
    """Five milliseconds of audio and the step's own host work are to be hidden; 5 % at most are lost."""
    times = Times(((1, 1.0),), ((1, step_s),), (0.0009,), 1.0, 100, 16)
    assert times.steps_ahead(1) == ahead


@pytest.mark.parametrize(
    "wrong",
    [
        {"encode_s": ((2, 1.0),)},
        {"encode_s": ((1, 1.0), (1, 2.0))},
        {"step_s": ((1, 0.1), (4, 0.2), (2, 0.3))},
        {"steps": 0},
        {"host_s": (0.1,)},
    ],
)
def test_what_no_measuring_gives_is_refused(wrong):
    with pytest.raises(ValueError, match=r"sizes must rise|steps need"):
        Times(**vars(TIMES) | wrong)


def test_the_reason_says_what_was_chosen_beside_the_most():
    said = TIMES.reason(4, 2)
    assert "1.30 s with 4 slots, encoded 2 at once; 8 rows a step" in said
    assert MOST_SIZE == 1024
