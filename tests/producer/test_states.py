"""Job states: each of RQ's words has one of ours."""

from rq.job import JobStatus

from producer.states import ENDED_BADLY, STATE_OF_RQ_STATUS, state_of


def test_every_status_that_a_job_of_ours_can_have_is_mapped():
    """A new one of a later RQ would count as lost, as rate limits do: this test says so first."""
    unmapped = {status.value for status in JobStatus} ^ set(STATE_OF_RQ_STATUS)
    assert unmapped == {"rate_limited", "ready_to_enqueue"}


def test_an_unknown_status_counts_as_lost():
    """Also the empty one of a hash without a status."""
    assert state_of("invented") == state_of("") == "lost"


def test_jobs_that_ended_badly_are_those_that_count_as_failed():
    """Failed, stopped by an RQ tool, cancelled."""
    assert {"failed", "stopped", "canceled"} == ENDED_BADLY
