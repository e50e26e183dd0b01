"""Whether a failed attempt is repeated, and when: policy without a server."""

import pytest

from producer.errors import (
    CorruptAudio,
    OutOfMemory,
    Poison,
    SourceUnreachable,
    WorkerLost,
)
from producer.settings import QueueSettings
from worker.farm.retries import History, RetryIn, after_failure

SETTINGS = QueueSettings(max_attempts=4, retry_delays_s=(10.0, 60.0), poison_after=2)
AWAY = SourceUnreachable("share", "must answer")
LOST = WorkerLost("worker", "must live", "mini-3")


def test_a_permanent_error_is_final_whatever_came_before():
    """Trying again would be waste."""
    error = CorruptAudio("audio", "breaks off")
    assert after_failure(error, History(retries_left=5), SETTINGS) is error


@pytest.mark.parametrize(("tries", "delay_s"), [(0, 10.0), (1, 60.0), (2, 60.0)])
def test_delays_grow_and_the_last_one_stays(tries, delay_s):
    """As many as the settings list, then the last again."""
    assert after_failure(AWAY, History(tries=tries), SETTINGS) == RetryIn(delay_s)


def test_after_the_last_attempt_the_error_is_final():
    """max_attempts counts the first one."""
    assert after_failure(AWAY, History(tries=3), SETTINGS) is AWAY


def test_a_first_dead_worker_costs_no_delay():
    """The recording goes on at once, in front of others."""
    assert after_failure(LOST, History(deaths=1), SETTINGS) == RetryIn(0.0)


def test_a_second_dead_worker_in_a_row_makes_the_recording_poison():
    """Nobody else is asked to die."""
    error = after_failure(LOST, History(tries=1, deaths=2), SETTINGS)
    assert isinstance(error, Poison)
    assert error.value == 2


def test_deaths_with_the_machine_make_no_recording_poison():
    """A Mac that restarts at night takes all its recordings with it."""
    assert after_failure(LOST, History(tries=1, deaths=2, excused=1), SETTINGS) == RetryIn(60.0)
    assert after_failure(LOST, History(tries=3, deaths=4, excused=4), SETTINGS) is LOST


def test_where_more_deaths_are_allowed_they_are_tried_with_delays():
    """Between the first death and the last there is the usual wait."""
    patient = SETTINGS.model_copy(update={"poison_after": 9})
    assert after_failure(LOST, History(tries=1, deaths=2), patient) == RetryIn(60.0)
    assert after_failure(LOST, History(tries=3, deaths=4), patient) is LOST


def test_an_rq_programs_retry_replaces_the_farms():
    """Its number and its delays; the first delay for the first try."""
    asked = History(tries=0, retries_left=2, retry_delays_s=(5.0, 7.0))
    assert after_failure(OutOfMemory("gpu", "full"), asked, SETTINGS) == RetryIn(5.0)
    spent = History(tries=2, retries_left=0, retry_delays_s=(5.0, 7.0))
    assert after_failure(AWAY, spent, SETTINGS) is AWAY
    without_delay = History(retries_left=1)
    assert after_failure(AWAY, without_delay, SETTINGS) == RetryIn(0.0)
