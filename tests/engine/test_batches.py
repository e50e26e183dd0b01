"""Batches that are handed to the device part by part, with steps between."""

from producer.errors import Cancelled
from tests.stage.desk import BEHIND_BATCH_S, Decode, Desk, Encode


def stepping(**sizes):
    """Return a desk with a row that is stepped for long."""
    desk = Desk(steps=100, parts=3, **sizes)
    desk.begin("row", Decode(1))
    desk.turns(1)
    return desk


def test_rows_are_stepped_between_the_parts_of_a_batch():
    """A part a turn; the reply comes once all are handed over."""
    desk = stepping(batch_size=1)
    track = desk.begin("a", Encode("a"))
    began = desk.stats.steps
    desk.turns(3)
    assert desk.handed_over == [(["a"], number, began + 1 + number) for number in range(3)]
    assert track.transcription.replies == []
    desk.turns(1)
    assert track.transcription.replies == ["a"]


def test_two_batches_that_are_under_way_advance_in_the_same_turn():
    """However slow parts are beside steps, no queue of batches builds up."""
    desk = stepping(batch_size=1)
    desk.begin("a", Encode("a"))
    desk.turns(1)
    desk.begin("b", Encode("b"))
    desk.turns(2)
    parts = [(names[0], number) for names, number, _ in desk.handed_over]
    assert parts == [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)]


def test_what_was_handed_over_of_a_batch_is_told():
    """The engine takes audio for as long as the device is busy with it."""
    desk = stepping(batch_size=1)
    desk.begin("a", Encode("a"))
    shares = []
    for _ in range(5):
        desk.turns(1)
        shares.append(round(desk.schedule.receiving_s / BEHIND_BATCH_S, 2))
    assert shares == [0.33, 0.33, 0.33, 0, 0]


def test_without_rows_all_parts_are_handed_over_at_once():
    """Nobody would step between."""
    desk = Desk(parts=3)
    track = desk.begin("a", Encode("a"))
    desk.turns(1)
    assert [number for _, number, _ in desk.handed_over] == [0, 1, 2]
    assert track.transcription.replies == ["a"]
    assert desk.schedule.is_idle


def test_an_engine_with_a_batch_under_way_is_not_idle():
    """Even where nothing else is left to do."""
    desk = Desk(parts=3, steps=2, batch_size=1)
    desk.begin("row", Decode(1))
    desk.begin("a", Encode("a"))
    desk.turns(1)
    assert not desk.schedule.is_idle
    desk.turns(3)
    assert desk.schedule.is_idle


def test_a_part_without_room_lets_the_batch_be_tried_in_halves():
    """From its start; what was handed over of it is lost, and no recording is."""
    desk = stepping(batch_size=2)
    tracks = [desk.begin(name, Encode(name)) for name in "ab"]
    desk.turns(1)
    desk.room = 1
    desk.turns(10)
    assert [track.transcription.replies for track in tracks] == [["a"], ["b"]]
    assert desk.batches == [["a", "b"], ["a"], ["b"]]


def test_a_recording_that_leaves_meanwhile_gets_no_reply_and_is_not_tried_again():
    """Its neighbour goes on."""
    desk = stepping(batch_size=2)
    gone, stays = (desk.begin(name, Encode(name)) for name in "ab")
    desk.turns(1)
    desk.schedule.fail(gone, Cancelled("job", "cancelled", "by its user"))
    desk.room = 1
    desk.turns(1)
    desk.turns(10)
    assert (gone.transcription.replies, stays.transcription.replies) == ([], ["b"])
    assert desk.batches == [["a", "b"], ["b"]]
