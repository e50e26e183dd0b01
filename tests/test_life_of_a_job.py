"""The life of one job, from a file to its text: read it from top to bottom.

Everything is real: the server, the queue, the farm worker, the engine, the weights, the speech.
"""

import importlib.util
from pathlib import Path

import pytest
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

import producer
from producer.connection import connect
from producer.errors import CorruptAudio
from producer.events import read_events
from producer.formats import to_srt, to_timed
from producer.job import TASK_NAME, Job
from producer.queue import job_state, read_result
from worker.farm.farm_worker import FarmWorker

# Ten seconds of real speech that every clone has.
ASSETS = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets"
SPEECH = ASSETS / "beckett.wav"

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


def work(engine, settings):
    """Be a worker until the queues are empty, as `scribefarm-worker run --burst` is."""
    connection = connect(settings)
    exit_code = FarmWorker(engine, settings, connection, name="shelf").run(burst=True)
    connection.close()
    return exit_code


def test_a_recording_becomes_a_text(settings, connection, real_engine):
    """Submit, claim, decode, commit, read: what is stored where at each point."""
    # A program says what it wants: files, and options if the defaults will not do. Nothing heavy
    # is imported for that, and no model is needed on this machine.
    submission = producer.submit([SPEECH], word_timestamps=True, settings=settings)
    (entry,) = submission.entries
    job_id = entry.job_id

    # The job is a plain RQ job. Its id is a hash of audio, model and options...
    assert job_state(connection, job_id) == "queued"
    stored = RqJob.fetch(job_id, connection=connection, serializer=JSONSerializer)
    assert stored.func_name == TASK_NAME
    job = Job.from_kwargs(stored.kwargs)
    assert Path(job.source) == SPEECH
    assert job.options.word_timestamps

    # ...so the same work is never queued twice.
    again = producer.submit([SPEECH], word_timestamps=True, settings=settings)
    assert again.entries[0].job_id == job_id
    assert connection.llen("rq:queue:default") == 1

    # A worker has loaded its model once, and keeps it. It claims the job, feeds the engine, writes
    # the result in one transaction, and finds the queue empty.
    assert work(real_engine(), settings) == 0
    assert job_state(connection, job_id) == "finished"

    # The result is there for whoever asks, by batch and by job.
    ((name, transcript),) = producer.results(submission.batch, settings=settings)
    assert name.endswith("beckett.wav")
    assert read_result(connection, job_id) == transcript
    assert transcript.text == (
        " Ever tried, ever failed. No matter, try again. Fail again. Fail better."
    )
    assert [segment.text for segment in transcript.segments] == [
        " Ever tried, ever failed.",
        " No matter, try again.",
        " Fail again.",
        " Fail better.",
    ]
    assert to_timed(transcript).startswith("[00:00.000 --> 00:02.7")

    # Every word has its time and how sure the model was; every format can be made of it later.
    words = [word for segment in transcript.segments for word in segment.words]
    assert [word.word for word in words[:4]] == [" Ever", " tried,", " ever", " failed."]
    assert all(0 <= word.start <= word.end <= 10 for word in words)
    assert all(0 < word.probability <= 1 for word in words)
    assert to_srt(transcript).startswith("1\n00:00:0")

    # It says what it was made of, and what it cost.
    assert transcript.audio.duration_s == pytest.approx(10, abs=0.5)
    assert (transcript.model.name, transcript.worker[:5]) == ("tiny.en", "shelf")
    assert transcript.timing.windows == 1
    assert transcript.timing.generated_tokens > 15
    assert transcript.timing.real_time_factor > 0
    assert transcript.flags == []

    # The world was told once.
    events = list(read_events(connection))
    assert [event.job_id for event in events] == [job_id]

    # Asking again costs nothing: the result is known, no worker is needed.
    known = producer.submit([SPEECH], word_timestamps=True, settings=settings)
    assert [result for _, result in producer.results(known.batch, settings=settings)] == [
        transcript
    ]


def test_a_recording_that_breaks_off_becomes_a_failure(settings, connection, real_engine, tmp_path):
    """A result, too: what was wrong, with the limit and the value, and no text that is half."""
    cut_off = tmp_path / "cut-off.wav"
    cut_off.write_bytes(SPEECH.read_bytes()[:100_000])
    submission = producer.submit([cut_off, SPEECH], settings=settings)
    assert work(real_engine(), settings) == 0
    results = dict(producer.results(submission.batch, settings=settings))
    (failure,) = [result for name, result in results.items() if "cut-off" in name]
    (transcript,) = [result for name, result in results.items() if "beckett" in name]
    assert (failure.status, failure.error.code) == ("failed", CorruptAudio.code)
    assert "bytes of samples" in failure.error.message
    assert not failure.error.retryable
    assert transcript.status == "succeeded"
