"""What becomes of a job when it ends: results and returns to the queue, without a server."""

import json
from dataclasses import replace

import pytest
from rq.job import JobStatus

from producer.errors import Cancelled, CorruptAudio, OutOfMemory, WorkerLost
from producer.settings import QueueSettings
from tests.stage.claims import make_claim, make_progress, make_transcript
from worker.farm.endings import (
    Outcome,
    after_attempt,
    after_breakdown,
    hand_back,
    refused,
    success,
)
from worker.farm.in_flight import read_flight

SETTINGS = QueueSettings(
    max_attempts=3, retry_delays_s=(10.0, 60.0), poison_after=2, result_ttl_s=1000
)
CORRUPT = CorruptAudio("audio", "breaks off")
FULL = OutOfMemory("gpu", "full")


def flight_of(name="a", **fields):
    return read_flight(make_claim(name, **fields), None)


def test_success_fills_in_what_only_the_farm_knows():
    """Job, source, metadata, worker and waiting time."""
    kwargs = {"metadata": {"shelf": 3}, "batch": "night"}
    flight = flight_of(kwargs=kwargs, enqueued_at=b"2023-11-14T22:13:10.000000Z")
    outcome = success(flight, make_transcript(), "w", SETTINGS)
    result = outcome.result
    assert (result.job_id, result.source) == ("job-a", "/archive/a.wav")
    assert (result.metadata, result.worker) == ({"shelf": 3}, "w")
    assert result.timing.queue_s == 10.0
    assert (outcome.status, outcome.worker, outcome.batch) == (JobStatus.FINISHED, "w", "night")
    assert outcome.ttl_s == 1000
    assert 0 <= outcome.busy_s < 5


def test_the_hash_of_other_audio_than_the_ids_own_is_noted():
    """So that nobody is given this text for his own recording; the ordinary job notes nothing."""
    named = {"model": "fake", "audio_sha256": "mine"}
    flight = flight_of(kwargs=named)
    mine, theirs = (
        make_transcript().model_copy(
            update={"audio": make_transcript().audio.model_copy(update={"sha256": digest})}
        )
        for digest in ("mine", "theirs")
    )
    claim = replace(flight.claim, job_id=flight.job.content_id("mine"))
    flight = replace(flight, claim=claim)
    assert success(flight, mine, "w", SETTINGS).foreign_sha256 == ""
    assert success(flight, make_transcript(), "w", SETTINGS).foreign_sha256 == ""
    assert success(flight, theirs, "w", SETTINGS).foreign_sha256 == "theirs"
    assert success(flight_of(), theirs, "w", SETTINGS).foreign_sha256 == "theirs"


@pytest.mark.parametrize("asked", [77, -1])
def test_ttls_of_the_rq_job_replace_the_farms(asked):
    """Each of its own kind: -1 keeps for ever."""
    text = flight_of(result_ttl=b"%d" % asked)
    assert success(text, make_transcript(), "w", SETTINGS).ttl_s == asked
    assert after_attempt(text, CORRUPT, "w", SETTINGS).ttl_s == 1000
    failing = flight_of(failure_ttl=b"%d" % asked)
    assert success(failing, make_transcript(), "w", SETTINGS).ttl_s == 1000
    assert after_attempt(failing, CORRUPT, "w", SETTINGS).ttl_s == asked


def test_a_permanent_error_ends_with_every_attempt_listed():
    """Those on record and this one."""
    earlier = json.dumps(FULL.to_dict()).encode() + b"\n"
    flight = flight_of(kwargs={"metadata": {"shelf": 3}}, attempts=earlier, tries=b"1")
    outcome = after_attempt(flight, CORRUPT, "w", SETTINGS)
    assert isinstance(outcome, Outcome)
    assert outcome.status is JobStatus.FAILED
    assert outcome.result.error.code == "corrupt_audio"
    assert [each.code for each in outcome.result.attempts] == ["out_of_memory", "corrupt_audio"]
    assert (outcome.result.source, outcome.result.metadata) == ("/archive/a.wav", {"shelf": 3})
    assert outcome.result.worker == "w"


def test_a_cancelled_job_is_stopped_in_rqs_words():
    """Its result is a failure like others."""
    outcome = after_attempt(flight_of(), Cancelled("job", "was stopped"), "w", SETTINGS)
    assert (outcome.status, outcome.result.status) == (JobStatus.STOPPED, "failed")


def test_a_transient_error_gives_the_job_back_with_its_record_delay_and_checkpoint():
    """The release spends a try; the next attempt goes on past the last window."""
    flight = flight_of(tries=b"1")
    flight.progress.take(make_progress("a", windows=2))
    release = after_attempt(flight, FULL, "w", SETTINGS)
    assert (release.job_id, release.execution_id, release.queue) == ("job-a", "a", "default")
    assert (release.delay_s, release.at_front, release.died) == (60.0, True, False)
    assert json.loads(release.record)["code"] == "out_of_memory"
    assert "window 1" in release.checkpoint


def test_poison_is_the_error_and_the_last_death_the_last_attempt():
    """The result says both why it ended and what happened."""
    lost = WorkerLost("worker", "must live", "mini-3")
    outcome = after_attempt(flight_of(deaths=b"2"), lost, "w", SETTINGS)
    assert outcome.result.error.code == "poison"
    assert [each.code for each in outcome.result.attempts] == ["worker_lost"]


def test_a_breakdown_counts_as_a_death():
    """The first gives the job back as a suspect, the second in a row ends it."""
    release = after_breakdown(flight_of(), FULL, "w", SETTINGS)
    assert (release.died, release.delay_s) == (True, 0.0)
    record = json.loads(release.record)
    assert (record["code"], "broke down" in record["message"]) == ("worker_lost", True)
    outcome = after_breakdown(flight_of(deaths=b"1"), FULL, "w", SETTINGS)
    assert outcome.result.error.code == "poison"


def test_handing_back_spends_no_try_and_keeps_a_stored_checkpoint():
    """Before the first window there is none to send."""
    release = hand_back(flight_of())
    assert (release.record, release.checkpoint, release.delay_s) == ("", "", 0.0)
    assert release.at_front


def test_a_refused_job_says_what_could_be_read_of_it():
    """Wrong times leave the source known; wrong data does not."""
    kwargs = {"metadata": {"shelf": 3}, "batch": "night"}
    late = refused(make_claim(kwargs=kwargs, timeout=b"1h"), CORRUPT, "w", SETTINGS)
    assert (late.result.source, late.result.metadata) == ("/archive/a.wav", {"shelf": 3})
    assert (late.batch, late.ttl_s, late.busy_s) == ("night", 1000, 0.0)
    broken = refused(make_claim(data=b"{"), CORRUPT, "w", SETTINGS)
    assert (broken.result.source, broken.result.metadata, broken.batch) == ("", {}, None)
    assert [each.code for each in broken.result.attempts] == ["corrupt_audio"]
