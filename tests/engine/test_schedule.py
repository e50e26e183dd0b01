"""The engine's policy turn by turn: no thread, no waiting, every decision seen."""

import time

import pytest

from producer.errors import Cancelled, DeviceLost, Internal, OutOfMemory
from tests.stage.desk import BEHIND_BATCH_S, Decode, Desk, Encode, Weigh
from worker.engine.messages import Checkpoint, Done, Failed, Progress
from worker.engine.requests import Batched, Compute
from worker.engine.times import RECEIVE_S


def test_an_idle_schedule_says_so_and_one_with_work_does_not():
    """Its thread may sleep, then."""
    desk = Desk()
    assert desk.schedule.is_idle
    track = desk.begin("a", Encode("a"))
    assert not desk.schedule.is_idle
    desk.turns(1)
    assert desk.schedule.is_idle
    assert track.transcription.replies == ["a"]
    assert [type(event) for event in desk.events] == [Done]


def test_an_idle_device_takes_a_batch_that_is_not_full():
    """There is nothing better to do."""
    desk = Desk(batch_size=8)
    desk.begin("a", Encode("a"))
    desk.turns(1)
    assert desk.batches == [["a"]]


def test_while_rows_are_stepped_a_batch_fills_up_or_has_waited_long_enough():
    """Three steps of patience; a full batch goes at once."""
    desk = Desk(batch_size=2, patience=3, steps=50)
    desk.begin("row", Decode(1))
    desk.turns(1)
    desk.begin("a", Encode("a"))
    desk.turns(3)
    assert desk.batches == []
    desk.turns(1)
    assert desk.batches == [["a"]]
    desk.begin("b", Encode("b"))
    desk.begin("c", Encode("c"))
    desk.turns(1)
    assert desk.batches == [["a"], ["b", "c"]]
    assert (desk.stats.batches, desk.stats.batched_requests) == (2, 3)


def test_a_reply_that_waits_for_the_device_is_read_after_the_next_step_was_started():
    """So the device has work while the thread waits."""
    desk = Desk(steps=50)
    desk.begin("row", Decode(1))
    desk.turns(1)
    track = desk.begin("a", Weigh("a"))
    desk.turns(1)
    assert (desk.batches, desk.reads) == ([["a"]], [])
    started_at = desk.stats.steps
    desk.turns(1)
    assert desk.reads == [(["a"], started_at + 1)]
    assert track.transcription.replies == ["a"]


def test_a_batch_is_handed_over_while_the_device_has_a_step_to_do():
    """Else it would do nothing meanwhile."""
    desk = Desk(steps=50, batch_size=1)
    desk.begin("row", Decode(1))
    desk.turns(1)
    desk.begin("a", Encode("a"))
    step = desk.stepper.step

    def look_and_step():
        assert desk.batches == []
        return step()

    desk.stepper.step = look_and_step
    desk.turns(1)
    assert desk.batches == [["a"]]


def test_one_recordings_next_request_joins_the_next_step():
    """Encoded, it waits for no further turn to be decoded."""
    desk = Desk(steps=1)
    track = desk.begin("a", Encode("a"), Decode(7))
    desk.turns(1)
    assert desk.schedule.receiving_s == BEHIND_BATCH_S
    desk.turns(1)
    assert desk.schedule.receiving_s < 1
    assert desk.stepper.ended == [(7, 0)]
    assert len(track.transcription.replies) == 2


@pytest.mark.parametrize(("rows", "share"), [(1, 0.75), (3, 0.25), (4, 0.0)])
def test_places_that_no_row_takes_give_time_for_audio(rows, share):
    """A step costs the same without them; with all of them taken little is received between steps."""
    desk = Desk(slots=4, steps=50)
    for number in range(rows):
        desk.begin(f"row {number}", Decode(number))
    desk.turns(1)
    desk.stats.step.last_s = 40 * RECEIVE_S
    assert desk.schedule.receiving_s == max(RECEIVE_S, share * 40 * RECEIVE_S)


def test_a_checkpoint_is_said_and_not_answered():
    """`Progress` comes before what follows it."""
    desk = Desk()
    desk.begin("a", Encode("a"), Checkpoint(language="de"))
    desk.turns(1)
    assert [type(event) for event in desk.events] == [Progress, Done]
    assert desk.events[0].checkpoint.language == "de"
    assert (desk.events[0].seconds_done, desk.events[0].duration_s) == (1.0, 2.0)


def test_host_work_is_handed_out_and_its_result_comes_back_by_advance():
    """The schedule itself computes nothing."""
    desk = Desk()
    track = desk.begin("a", Compute(lambda: 5))
    [(handed, request)] = desk.computed
    assert (handed, request.run()) == (track, 5)
    desk.turns(1)
    assert desk.events == []
    desk.schedule.advance(track, 5)
    assert track.transcription.replies == [5]


def test_a_reply_that_finds_no_room_is_asked_for_again_in_smaller_batches():
    """Metal says so when a result is read, not when it is asked for."""
    desk = Desk(batch_size=4)
    desk.reply_room = 1
    tracks = [desk.begin(name, Weigh(name)) for name in "abcd"]
    desk.turns(6)
    assert [track.transcription.replies for track in tracks] == [["a"], ["b"], ["c"], ["d"]]
    desk.reply_room = 0
    desk.stepper.num_slots = 1
    desk.begin("e", Weigh("e"))
    desk.turns(2)
    assert type(desk.events[-1]) is Failed
    assert type(desk.events[-1].error) is OutOfMemory


LOST = DeviceLost("device", "must finish what it was given")


def test_a_lost_device_fails_no_recording_and_ends_the_schedule():
    """At a step, at a batch or at its reply: the farm gives all recordings to others."""
    stepped, started, read = Desk(steps=50), Desk(steps=50), Desk(steps=50)
    stepped.stepper.step_errors.append(LOST)
    stepped.begin("a", Decode(1))
    for desk, request in ((started, Encode("a")), (read, Weigh("a"))):
        desk.begin("a", request)
        desk.begin("b", Decode(2))
    started.fail_with = read.fail_reading_with = LOST
    for desk in (stepped, started, read):
        with pytest.raises(DeviceLost):
            desk.turns(6)
        assert desk.events == []


def test_without_room_a_batch_is_halved_then_the_rows_then_its_recordings_fail():
    """And the next recordings find a schedule that works."""
    desk = Desk(slots=2, batch_size=4)
    desk.room = 1
    for name in "abcd":
        desk.begin(name, Encode(name))
    desk.turns(6)
    assert desk.batches == [["a"], ["b"], ["c"], ["d"]]
    desk.room = 0
    desk.begin("e", Encode("e"))
    desk.turns(1)
    assert desk.stepper.num_slots == 1
    desk.turns(1)
    assert isinstance(desk.events[-1], Failed)
    assert isinstance(desk.events[-1].error, OutOfMemory)
    desk.room = 1
    desk.begin("f", Encode("f"))
    desk.turns(1)
    assert isinstance(desk.events[-1], Done)


@pytest.mark.parametrize("error", [Cancelled("job", "was stopped"), ZeroDivisionError("a defect")])
def test_a_transcription_that_raises_ends_alone(error):
    """An error of ours is its own, anything else is a defect; the neighbour goes on."""
    desk = Desk()
    desk.begin("bad", Encode("bad"), error)
    desk.begin("good", Encode("good"))
    desk.turns(2)
    ended = {event.execution_id: event for event in desk.events}
    assert isinstance(ended["bad"].error, Cancelled | Internal)
    assert isinstance(ended["good"], Done)


def test_a_request_that_no_family_computes_is_a_defect_of_its_recording():
    """It is named, and nobody waits for ever."""

    class Unknown(Batched):
        """No family has it."""

    desk = Desk()
    desk.begin("a", Unknown())
    assert isinstance(desk.events[-1].error, Internal)


def test_a_failed_recording_leaves_no_request_behind():
    """Neither in a queue nor in the stepper; its reply, if it still comes, goes nowhere."""
    desk = Desk(steps=50, batch_size=4)
    row, waiting = desk.begin("row", Decode(1)), None
    desk.turns(1)
    waiting = desk.begin("waiting", Encode("waiting"))
    unread = desk.begin("unread", Weigh("unread"))
    for track in (row, waiting, unread):
        desk.schedule.fail(track, Cancelled("job", "was cancelled"))
    assert desk.schedule.is_idle
    desk.schedule.advance(unread, "late")
    assert [event.execution_id for event in desk.events] == ["row", "waiting", "unread"]
    assert unread.transcription.replies == []


def test_time_is_counted_where_it_went():
    """Batches, steps and replies; none of them twice."""
    desk = Desk()
    started = time.perf_counter()
    desk.begin("a", Encode("a"), Decode(1), Weigh("a"))
    desk.turns(5)
    figures = desk.stats.figures()
    spent = sum(figures[f"{part}_s"] for part in ("batch", "step", "reply"))
    assert 0 < spent <= time.perf_counter() - started
    assert figures["row_steps"] >= figures["steps"] > 0
