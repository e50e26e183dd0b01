"""3. An RQ program: it enqueues recordings and builds on their texts, and imports nothing of ours.

Scribefarm's queue is RQ's own. Any program that can enqueue a job with JSON arguments can use it.
"""

import json

import pytest
from rq import Callback, Queue, SimpleWorker, get_current_job

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

TRANSCRIBE = "worker.tasks.transcribe"
COUNT_WORDS = "tests.tutorial.test_3_an_rq_program.count_words"


def count_words(job_id):
    """Read the transcript that this job waited for; a task of the program's own."""
    stored = get_current_job().connection.get(f"scribefarm:result:{job_id}")
    return len(json.loads(stored)["text"].split())


def test_a_job_of_yours_runs_once_the_transcript_is_there(connection, work, speech, said):
    """The farm takes its jobs, a stock RQ worker takes yours."""
    # The name of the task and a path that the workers see: options are optional.
    default = Queue("default", connection=connection, serializer="json")
    talk = default.enqueue(TRANSCRIBE, source=str(speech), options={"language": "en"})

    # A job of another kind, on a queue of its own, waits for the transcript.
    words = Queue("words", connection=connection, serializer="json")
    counting = words.enqueue(COUNT_WORDS, talk.id, depends_on=talk)
    assert counting.get_status() == "deferred"

    # The farm's worker never touches that queue; its commit lets the waiting job go.
    assert work() == 0
    assert talk.get_status() == "finished"
    assert words.get_job_ids() == [counting.id]
    SimpleWorker([words], connection=connection, serializer="json").work(burst=True)
    assert counting.return_value() == len(said.split())

    # RQ's own return value is a small pointer: a transcript may be large, and has a schema.
    pointer = talk.return_value()
    assert pointer == {"result_key": f"scribefarm:result:{talk.id}", "status": "succeeded"}
    assert json.loads(connection.get(pointer["result_key"]))["text"] == said


def test_what_the_farm_cannot_do_is_refused_by_name(connection, work, speech):
    """A callback would have to run in the worker, which never imports other people's code."""
    default = Queue("default", connection=connection, serializer="json")
    talk = default.enqueue(TRANSCRIBE, source=str(speech), on_success=Callback(COUNT_WORDS))
    assert work() == 0
    result = json.loads(connection.get(f"scribefarm:result:{talk.id}"))
    assert (result["status"], result["error"]["code"]) == ("failed", "job_refused")
    assert "use depends_on" in result["error"]["message"]
