"""The queue: RQ's own layout, nothing twice, push back when full."""

import hashlib
import os
import threading
from datetime import UTC, datetime

import pytest
from rq import Queue
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry
from rq.serializers import JSONSerializer

from producer.archive.hash_cache import hash_audio
from producer.connection import connect
from producer.errors import QueueFull, SourceNotFound
from producer.job import TASK_NAME, Job, Options
from producer.keys import batch_key, job_key, progress_key, registry_key, result_key
from producer.queue import BATCH_SIZE, job_id_of, job_state, read_progress, read_result, submit
from producer.settings import load_settings
from tests.producer.known_jobs import DEFAULT_QUEUE, fail, job, jobs, waiting


def test_rq_reads_our_job_back(connection, settings):
    """RQ's own classes see function, arguments, times and lifetimes as if RQ had written them."""
    asked = job(options=Options(language="de"), metadata={"id": 7, "title": "Übung"})
    [entry] = submit(connection, settings, [asked])
    assert (entry.state, entry.is_new) == ("queued", True)
    read = RqJob.fetch(entry.job_id, connection=connection, serializer=JSONSerializer)
    assert (read.func_name, read.args) == (TASK_NAME, [])
    assert Job.from_kwargs(read.kwargs) == asked.model_copy(update={"model": "tiny.en"})
    assert read.get_status() is JobStatus.QUEUED
    assert read.origin == DEFAULT_QUEUE == "default@tiny.en"
    assert abs((datetime.now(UTC) - read.enqueued_at).total_seconds()) < 60
    assert read.enqueued_at == read.created_at
    assert read.ttl == settings.queue.job_ttl_s
    assert read.result_ttl == read.failure_ttl == settings.queue.result_ttl_s
    assert waiting(connection) == [entry.job_id]
    assert [found.name for found in Queue.all(connection, serializer=JSONSerializer)] == [
        DEFAULT_QUEUE
    ]


def test_rq_enqueues_the_same_fields_that_we_write(connection, settings):
    """The contract with RQ's layout: each field is one that RQ writes, in its form, but the trace."""
    asked = job(model="tiny.en")
    [entry] = submit(connection, settings, [asked])
    theirs = Queue("default", connection=connection, serializer=JSONSerializer).enqueue(
        TASK_NAME, kwargs=asked.to_kwargs(), ttl=5, result_ttl=5, failure_ttl=5
    )
    our_hash = connection.hgetall(job_key(entry.job_id))
    their_hash = connection.hgetall(theirs.key)
    assert set(our_hash) - {b"traceparent"} <= set(their_hash)
    assert their_hash[b"data"] == our_hash[b"data"]
    for field in (b"created_at", b"enqueued_at"):
        assert len(our_hash[field]) == len(their_hash[field])


def test_submitting_twice_gives_the_same_id_and_enqueues_once(connection, settings):
    """The id is a hash of what is asked, so a second night costs nothing."""
    [first] = submit(connection, settings, [job()])
    [second] = submit(connection, settings, [job()])
    assert second == (first.job_id, "queued", False)
    assert waiting(connection) == [first.job_id]


def test_the_same_audio_twice_in_one_call_is_one_job(connection, settings):
    """Copies of a recording in an archive are transcribed once."""
    copy = job().model_copy(update={"source": "/archive/copy.wav"})
    first, second = submit(connection, settings, [job(), copy])
    assert (first.is_new, second.is_new) == (True, False)
    assert first.job_id == second.job_id
    assert len(waiting(connection)) == 1


def test_another_model_option_or_audio_is_other_work(connection, settings):
    """What changes the text changes the id; what does not, like the folder, does not."""
    other_model = load_settings(model={"name": "base"})
    ids = {
        job_id_of(job(), settings),
        job_id_of(job(1), settings),
        job_id_of(job(), other_model),
        job_id_of(job(options=Options(language="de")), settings),
    }
    assert len(ids) == 4
    moved = job().model_copy(update={"source": "/elsewhere.wav", "batch": "b", "name": "n"})
    assert job_id_of(moved, settings) in ids


@pytest.mark.parametrize("state", ["started", "finished", "failed", "stopped", "canceled"])
def test_a_known_job_is_answered_with_its_state(connection, settings, state):
    """Running and ended jobs are left alone."""
    [entry] = submit(connection, settings, [job()])
    fail(connection, entry.job_id, status=state)
    assert submit(connection, settings, [job()]) == [(entry.job_id, state, False)]
    assert waiting(connection) == []
    assert job_state(connection, entry.job_id) == state


@pytest.mark.parametrize("state", ["failed", "stopped", "canceled"])
def test_failed_jobs_are_enqueued_afresh_on_request(connection, settings, state):
    """Nothing of the failure is left: no result, no registry entry, no fields of the old run."""
    [entry] = submit(connection, settings, [job()])
    fail(connection, entry.job_id, status=state)
    connection.hset(job_key(entry.job_id), "fence", "old")
    connection.zadd(registry_key("canceled", DEFAULT_QUEUE), {entry.job_id: 1})
    again = submit(connection, settings, [job()], resubmit_failed=True)
    assert again == [(entry.job_id, "queued", True)]
    assert waiting(connection) == [entry.job_id]
    assert read_result(connection, entry.job_id) is None
    assert connection.hget(job_key(entry.job_id), "fence") is None
    for registry in (FailedJobRegistry, CanceledJobRegistry):
        assert connection.zcard(registry.key_template.format(DEFAULT_QUEUE)) == 0


@pytest.mark.parametrize("state", ["queued", "started", "finished"])
def test_jobs_that_did_not_fail_are_not_enqueued_again(connection, settings, state):
    """Asking to retry failures must not repeat work that runs or is done."""
    [entry] = submit(connection, settings, [job()])
    connection.hset(job_key(entry.job_id), "status", state)
    connection.set(result_key(entry.job_id), "{}", ex=60)
    assert submit(connection, settings, [job()], resubmit_failed=True)[0].is_new is False


def test_a_finished_job_whose_transcript_is_gone_is_done_again(connection, settings):
    """Whoever submits wants a text, and this one's lifetime is over."""
    [entry] = submit(connection, settings, [job()])
    connection.hset(job_key(entry.job_id), "status", "finished")
    assert submit(connection, settings, [job()])[0].is_new is True


def test_a_full_queue_pushes_back_with_value_and_limit(connection, server_settings):
    """A batch that does not fit is refused whole; what fits, and what is known, passes."""
    settings = load_settings(queue={"max_queued": 3})
    submit(connection, settings, jobs(2))
    with pytest.raises(QueueFull, match=r"max_queued is 3 .*got 2") as caught:
        submit(connection, settings, jobs(4))
    assert caught.value.retryable
    assert len(waiting(connection)) == 2
    assert [entry.is_new for entry in submit(connection, settings, jobs(3))] == [0, 0, 1]
    assert [entry.is_new for entry in submit(connection, settings, jobs(3))] == [0, 0, 0]


def test_all_queues_of_the_farm_count_against_the_limit(connection, server_settings):
    """Pressure on the server is the sum of the queues."""
    settings = load_settings(queue={"max_queued": 1})
    submit(connection, settings, [job(0)], queue="low")
    with pytest.raises(QueueFull):
        submit(connection, settings, [job(1)], queue="high")


def test_many_jobs_go_in_batches_and_keep_their_order(connection, settings):
    """More than one script call; first in, first out."""
    entries = submit(connection, settings, jobs(2 * BATCH_SIZE + 1))
    assert waiting(connection) == [entry.job_id for entry in entries]
    assert all(entry.is_new for entry in entries)


def test_submitting_reads_no_further_than_a_batch_ahead(connection, settings):
    """An archive of any size streams through: each batch is enqueued before the next is read."""
    num_waiting = []

    def archive():
        for number in range(2 * BATCH_SIZE + 2):
            num_waiting.append(len(waiting(connection)))
            yield job(number)

    submit(connection, settings, archive())
    # Grouping by batch name looks one job ahead at most.
    assert num_waiting[:BATCH_SIZE] == [0] * BATCH_SIZE
    assert num_waiting[BATCH_SIZE + 1] == BATCH_SIZE
    assert num_waiting[2 * BATCH_SIZE + 1] == 2 * BATCH_SIZE


def test_two_producers_at_once_enqueue_each_job_once(connection, settings):
    """The check and the push are one script."""
    threads = [
        threading.Thread(target=submit, args=(connect(settings), settings, jobs(1200)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waiting(connection)) == len(set(waiting(connection))) == 1200


def test_a_batch_maps_names_to_jobs(connection, settings):
    """Two names may share a job; a job known before joins the batch too."""
    [known] = submit(connection, settings, [job(0)])
    named = [job(0, batch="night", name="a.wav"), job(0, batch="night", name="b.wav")]
    other = job(1, batch="night")
    entries = submit(connection, settings, [*named, other])
    assert connection.hgetall(batch_key("night")) == {
        b"a.wav": known.job_id.encode(),
        b"b.wav": known.job_id.encode(),
        b"/archive/1.wav": entries[2].job_id.encode(),
    }
    assert 0 < connection.ttl(batch_key("night")) <= settings.queue.result_ttl_s


def test_every_key_that_submit_writes_expires_or_is_bounded(connection, settings):
    """Lists and the set of queue names hold only what other keys hold."""
    submit(connection, settings, jobs(3, batch="b"))
    immortal = {key for key in connection.scan_iter("*") if connection.ttl(key) == -1}
    assert immortal == {b"rq:queue:default@tiny.en", b"rq:queues"}


def test_the_audio_is_hashed_in_blocks_where_no_hash_is_given(connection, settings, write_wav):
    """A file's id depends on its bytes alone."""
    path = write_wav(num_samples=1_200_000)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_audio(path) == expected
    assert job_id_of(Job(source=str(path)), settings) == job_id_of(
        Job(source="/other.wav", audio_sha256=expected), settings
    )


def test_what_cannot_be_hashed_gives_a_typed_error(tmp_path, connection, settings):
    """Missing, a folder, a path through a file, a pipe, an endless device, a NUL in the name."""
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    wrong = ["none.wav", "", "file/x.wav", "pipe", "/dev/zero", "a\0b.wav"]
    for path in (tmp_path / name for name in wrong):
        with pytest.raises(SourceNotFound, match=r"existing file|regular file"):
            submit(connection, settings, [Job(source=str(path))])
    assert waiting(connection) == []


def test_progress_is_read_for_the_jobs_that_have_some(connection):
    """One round trip for all."""
    connection.hset(progress_key("a"), mapping={"seconds_done": "3", "duration_s": "9"})
    connection.expire(progress_key("a"), 60)
    assert read_progress(connection, ["a", "b"]) == {"a": {"seconds_done": "3", "duration_s": "9"}}
