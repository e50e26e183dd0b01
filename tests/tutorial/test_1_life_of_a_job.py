"""1. The life of one job, from a file to its text: read it from top to bottom.

Everything is real: the server, the queue, the farm worker, the engine, the weights, the speech.
"""

import pytest
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

import producer
from producer.events import read_events
from producer.job import TASK_NAME, Job
from producer.queue import job_state, read_result

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


def test_a_recording_becomes_a_text(settings, connection, work, speech, said):
    """Submit, claim, decode, commit, read: what is stored where at each point."""
    # A program says what it wants: files, and options if the defaults will not do. Nothing heavy
    # is imported for that, and no model is needed on this machine.
    submission = producer.submit([speech], word_timestamps=True, settings=settings)
    job_id = submission.entries[0].job_id

    # The job is a plain RQ job. Its id is a hash of audio, model and options...
    assert job_state(connection, job_id) == "queued"
    stored = RqJob.fetch(job_id, connection=connection, serializer=JSONSerializer)
    assert stored.func_name == TASK_NAME
    job = Job.from_kwargs(stored.kwargs)
    assert (job.path, job.options.word_timestamps) == (speech, True)

    # ...so the same work is never queued twice. It waits for a worker that has its model.
    again = producer.submit([speech], word_timestamps=True, settings=settings)
    assert again.entries[0].job_id == job_id
    assert connection.llen("rq:queue:default@tiny.en") == 1

    # A worker has loaded its model once, and keeps it. It claims the job, feeds the engine, writes
    # the result in one transaction, and finds the queue empty.
    assert work() == 0
    assert job_state(connection, job_id) == "finished"

    # The result is there for whoever asks, by batch and by job; step 6 makes files of it.
    ((name, transcript),) = producer.results(submission.batch, settings=settings)
    assert name.endswith("beckett.wav")
    assert read_result(connection, job_id) == transcript
    assert transcript.text == said
    assert transcript.segments[0].text == said

    # It says what it was made of.
    assert transcript.audio.duration_s == pytest.approx(10, abs=0.5)
    assert (transcript.model.name, transcript.worker[:5]) == ("tiny.en", "shelf")

    # The world was told once; asking again costs nothing, and no worker is needed.
    assert [event.job_id for event in read_events(connection)] == [job_id]
    known = producer.submit([speech], word_timestamps=True, settings=settings)
    assert dict(producer.results(known.batch, settings=settings)) == {name: transcript}
