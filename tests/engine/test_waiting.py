"""Requests that wait for company: which are computed together, and when."""

from types import SimpleNamespace

import pytest

from worker.engine.family import Computation
from worker.engine.waiting import MORE_PATIENCE, Waiting

PATIENCE = 2


@pytest.fixture
def waiting():
    """Requests are texts here, and those of one length belong together."""
    return Waiting(Computation(list, 4, PATIENCE, kind_of=len), batch_size=4)


def ask(waiting, *requests):
    """Let recordings of the same names wait."""
    tracks = [SimpleNamespace(name=request, waited=0) for request in requests]
    for asked in zip(tracks, requests, strict=True):
        waiting.add(asked)
    return tracks


def taken(waiting, *, device_is_idle=False):
    return [request for _, request in waiting.take_due(device_is_idle=device_is_idle)]


def test_a_batch_is_of_one_kind_and_the_others_keep_waiting(waiting):
    """What is computed in launches of its own gains nothing from company."""
    ask(waiting, "aa", "b", "cc", "d", "ee", "ff")
    assert taken(waiting) == ["aa", "cc", "ee", "ff"]
    assert taken(waiting) == []
    assert len(waiting) == 2


def test_a_batch_is_a_power_of_two():
    """A device sees few shapes; the rest has its turn at once."""
    waiting = Waiting(Computation(list, 8, PATIENCE), batch_size=8)
    ask(waiting, *"abcdefghijklmno")
    sizes = [len(taken(waiting, device_is_idle=True)) for _ in range(5)]
    assert sizes == [8, 4, 2, 1, 0]


def test_a_full_batch_goes_before_an_older_request_that_may_still_wait(waiting):
    """The device is used best so."""
    ask(waiting, "b")
    waiting.count_turn()
    ask(waiting, "aa", "cc", "ee", "ff")
    assert taken(waiting) == ["aa", "cc", "ee", "ff"]
    assert taken(waiting) == []


def test_no_kind_waits_for_ever_while_another_has_a_full_batch_at_every_turn(waiting):
    """Its turn comes when its patience is over, and it is the oldest."""
    ask(waiting, "b")
    seen = []
    for _ in range(PATIENCE + 2):
        ask(waiting, "aa", "cc", "ee", "ff")
        waiting.count_turn()
        seen.append(taken(waiting)[0])
    assert seen == ["aa", "aa", "b", "aa"]


def test_whoever_has_waited_long_enough_is_computed_with_the_company_there_is(waiting):
    """Counted in turns, each a step of the stepper."""
    ask(waiting, "aa", "b", "cc")
    for _ in range(PATIENCE):
        waiting.count_turn()
        assert taken(waiting) == []
    waiting.count_turn()
    assert taken(waiting) == ["aa", "cc"]
    assert taken(waiting) == ["b"]


def test_an_idle_device_takes_the_kind_whose_first_has_waited_longest(waiting):
    """Nothing is gained by waiting then."""
    ask(waiting, "b")
    waiting.count_turn()
    ask(waiting, "aa")
    assert taken(waiting, device_is_idle=True) == ["b"]
    assert taken(waiting, device_is_idle=True) == ["aa"]
    assert taken(waiting, device_is_idle=True) == []


def test_what_is_put_back_is_first_again_in_its_order(waiting):
    """The device had no room for the batch."""
    ask(waiting, "aa", "bb", "cc", "dd")
    batch = waiting.take_due(device_is_idle=False)
    waiting.put_back(batch)
    waiting.batch_size = 2
    assert taken(waiting) == ["aa", "bb"]
    assert taken(waiting) == ["cc", "dd"]


def test_a_dropped_recordings_request_is_forgotten(waiting):
    """It was cancelled."""
    first, _ = ask(waiting, "aa", "bb")
    waiting.drop(first)
    assert taken(waiting, device_is_idle=True) == ["bb"]
    assert not waiting


def test_while_others_are_under_way_a_batch_that_is_not_full_fills_up(waiting):
    """The device has enough to do; but nothing waits for ever."""
    ask(waiting, "b")
    waited = 0
    while not waiting.take_due(device_is_idle=False, others_are_under_way=True):
        waiting.count_turn()
        waited += 1
    assert waited == MORE_PATIENCE * PATIENCE + 1
    ask(waiting, "aa", "cc", "ee", "ff")
    assert len(waiting.take_due(device_is_idle=False, others_are_under_way=True)) == 4
