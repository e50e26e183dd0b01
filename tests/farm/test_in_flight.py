"""One recording at work: limits, progress and what makes it a suspect, without a server."""

import time
from dataclasses import replace

import pytest

from producer.errors import Cancelled, InvalidOptions, JobRefused
from producer.progress_lines import MAX_CHARS, read_lines
from producer.settings import WorkerSettings
from tests.stage.claims import make_claim, make_progress
from worker.farm.in_flight import Phase, read_flight

SETTINGS = WorkerSettings(min_deadline_s=60.0, deadline_factor=2.0)


def flight_of(name="a", **fields):
    return read_flight(make_claim(name, **fields), None)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"cancel": b"1"}, Cancelled),
        ({"data": b"{"}, JobRefused),
        ({"timeout": b"1h"}, JobRefused),
        ({"kwargs": {"loudness": 11}}, InvalidOptions),
    ],
)
def test_a_job_that_must_not_be_run_raises(fields, error):
    """Whoever reads it decides how it ends."""
    with pytest.raises(error):
        flight_of(**fields)


def test_a_job_that_an_older_producer_enqueued_is_decoded_as_it_was_meant():
    """Greedily: its id is of the defaults of then, which its data leaves out."""
    sent = {"model": "tiny.en", "audio_sha256": "0123456789abcdef" * 4}
    claim = make_claim("a", kwargs=sent)
    older = replace(claim, job_id="c7ca3f5929852d24293a1c90daf8f9ee")
    for each, beams in ((claim, 5), (older, None)):
        assert read_flight(each, None).job.options.beam_size == beams


def test_the_limit_grows_with_the_recording_once_its_duration_is_known():
    """Of the header at first (100 s times 2), then of a window's report (300 s)."""
    flight = flight_of()
    assert flight.limit_s(SETTINGS) == 60.0
    flight.note_opened(None)
    assert flight.limit_s(SETTINGS) == 60.0
    flight.note_opened(100.0)
    assert flight.limit_s(SETTINGS) == 200.0
    flight.progress.take(make_progress("a"))
    assert flight.limit_s(SETTINGS) == 600.0


def test_a_timeout_of_the_rq_job_is_the_limit_and_minus_one_is_none():
    """Whatever the recording's duration is."""
    for stored, limit_s in ((b"7", 7.0), (b"-1", None)):
        flight = flight_of(timeout=stored)
        flight.progress.take(make_progress("a"))
        assert flight.limit_s(SETTINGS) == limit_s


def test_storing_a_checkpoint_clears_a_suspect_and_its_tries():
    """Progress without a checkpoint does not: after a death it would be done again."""
    flight = flight_of(deaths=b"1", tries=b"2", retries_left=b"5")
    flight.progress.take(make_progress("a"))
    flight.mark_stored(with_checkpoint=False)
    assert (flight.is_suspect, flight.progress.is_stored) == (True, True)
    flight.mark_stored(with_checkpoint=True)
    assert not flight.is_suspect
    assert (flight.history.tries, flight.history.deaths, flight.history.retries_left) == (0, 0, 5)
    assert flight.progress.checkpointed_at == flight.progress.stored_at


def test_the_progress_hash_has_the_end_of_the_text():
    """Seconds with milliseconds; the text is cut to what a person reads."""
    flight = flight_of()
    assert (flight.progress.fields("w"), flight.progress.checkpoint()) == ({}, "")
    flight.progress.take(make_progress("a", windows=500))
    fields = flight.progress.fields("w")
    assert (fields["seconds_done"], fields["duration_s"]) == ("15000.000", "300.000")
    assert fields["worker"] == "w"
    assert fields["text"].endswith("window 499")
    assert len(fields["text"]) <= MAX_CHARS
    lines = read_lines(fields["lines"])
    assert "".join(line.text for line in lines).strip() == fields["text"]
    assert lines[-1].text.strip() == "window 499"


def test_each_phase_has_its_own_clock():
    """The time since the claim runs on."""
    flight = flight_of()
    flight.started_at = flight.phase_since = time.monotonic() - 10
    flight.enter(Phase.IN_ENGINE)
    assert flight.phase is Phase.IN_ENGINE
    assert flight.phase_s < 5 < flight.busy_s


def test_the_jobs_clock_starts_when_its_file_is_opened():
    """Hours in the line for a reading thread are not the job's."""
    flight = flight_of()
    flight.started_at -= 7200
    assert (flight.worked_s, flight.busy_s > 7000) == (0.0, True)
    flight.note_opened(1.0)
    flight.opened_at -= 10
    assert 10 <= flight.worked_s < 100
