"""The queue: RQ's own layout, nothing twice, push back when full, waiting without spinning."""

import hashlib
import os
import threading
import time
from datetime import UTC, datetime

import pytest
from rq import Queue
from rq.job import Job as RqJob
from rq.job import JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

from producer import queue
from producer.errors import (
    Internal,
    InvalidSettings,
    JobNotFound,
    NoWorker,
    QueueFull,
    ServerUnreachable,
    SourceForbidden,
    SourceNotFound,
)
from producer.job import TASK_NAME, Job, Options
from producer.queue import (
    BATCH_SIZE,
    EVENTS_KEY,
    batch_key,
    connect,
    hash_audio,
    job_key,
    job_state,
    live_workers,
    queue_key,
    read_progress,
    read_result,
    registry_key,
    result_key,
    submit,
    submit_iter,
    wait_for_results,
)
from producer.result import Failure, dump_result
from producer.settings import load_settings


def job(number=0, **fields):
    """Return a job whose audio is known by hash, so that no file is needed."""
    audio = hashlib.sha256(str(number).encode()).hexdigest()
    return Job(source=f"/archive/{number}.wav", audio_sha256=audio, **fields)


def jobs(num_jobs, **fields):
    """Return so many different jobs."""
    return [job(number, **fields) for number in range(num_jobs)]


def fail(connection, job_id, status="failed"):
    """End a job as a worker does: state, registry and result together."""
    failure = Failure.from_error(job_id, Internal("worker", "a defect", 1))
    with connection.pipeline() as pipe:
        pipe.hset(job_key(job_id), "status", status)
        pipe.zadd(registry_key("failed", "default"), {job_id: 2**40})
        pipe.lrem(queue_key("default"), 0, job_id)
        pipe.set(result_key(job_id), dump_result(failure), ex=3600)
        pipe.xadd(EVENTS_KEY, {"job_id": job_id, "status": "failed"})
        pipe.execute()
    return failure


def waiting(connection, name="default"):
    """Return the waiting job ids as RQ sees them."""
    return Queue(name, connection=connection, serializer=JSONSerializer).get_job_ids()


def test_rq_reads_our_job_back(connection, settings):
    """RQ's own classes see function, arguments, times and lifetimes as if RQ had written them."""
    asked = job(options=Options(language="de"), metadata={"id": 7, "title": "Übung"})
    [entry] = submit(connection, settings, [asked])
    assert (entry.state, entry.is_new) == ("queued", True)
    read = RqJob.fetch(entry.job_id, connection=connection, serializer=JSONSerializer)
    assert (read.func_name, read.args) == (TASK_NAME, [])
    assert Job.from_kwargs(read.kwargs) == asked
    assert read.get_status() is JobStatus.QUEUED
    assert read.origin == "default"
    assert abs((datetime.now(UTC) - read.enqueued_at).total_seconds()) < 60
    assert read.enqueued_at == read.created_at
    assert read.ttl == settings.queue.job_ttl_s
    assert read.result_ttl == read.failure_ttl == settings.queue.result_ttl_s
    assert waiting(connection) == [entry.job_id]
    assert [found.name for found in Queue.all(connection, serializer=JSONSerializer)] == ["default"]


def test_rq_enqueues_the_same_fields_that_we_write(connection, settings):
    """The contract with RQ's layout: each field of ours is one that RQ writes, in its form."""
    [entry] = submit(connection, settings, [job()])
    theirs = Queue("default", connection=connection, serializer=JSONSerializer).enqueue(
        TASK_NAME, kwargs=job().to_kwargs(), ttl=5, result_ttl=5, failure_ttl=5
    )
    our_hash = connection.hgetall(job_key(entry.job_id))
    their_hash = connection.hgetall(theirs.key)
    assert set(our_hash) <= set(their_hash)
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
        queue.job_id_of(job(), settings),
        queue.job_id_of(job(1), settings),
        queue.job_id_of(job(), other_model),
        queue.job_id_of(job(options=Options(language="de")), settings),
    }
    assert len(ids) == 4
    moved = job().model_copy(update={"source": "/elsewhere.wav", "batch": "b", "name": "n"})
    assert queue.job_id_of(moved, settings) in ids


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
    connection.zadd(registry_key("canceled", "default"), {entry.job_id: 1})
    again = submit(connection, settings, [job()], resubmit_failed=True)
    assert again == [(entry.job_id, "queued", True)]
    assert waiting(connection) == [entry.job_id]
    assert read_result(connection, entry.job_id) is None
    assert connection.hget(job_key(entry.job_id), "fence") is None
    for registry in (FailedJobRegistry, CanceledJobRegistry):
        assert connection.zcard(registry.key_template.format("default")) == 0


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


def test_submitting_holds_one_batch_in_memory(connection, settings):
    """An archive of any size streams through: the source is read no further than a batch ahead."""
    taken = []

    def archive():
        for number in range(10 * BATCH_SIZE):
            taken.append(number)
            yield job(number)

    entries = submit_iter(connection, settings, archive())
    next(entries)
    assert len(taken) <= BATCH_SIZE + 1
    assert len(waiting(connection)) == BATCH_SIZE


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
    assert immortal == {b"rq:queue:default", b"rq:queues"}


def test_the_audio_is_hashed_in_blocks_where_no_hash_is_given(connection, settings, write_wav):
    """A file's id depends on its bytes alone."""
    path = write_wav(num_samples=1_200_000)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_audio(path) == expected
    assert queue.job_id_of(Job(source=str(path)), settings) == queue.job_id_of(
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


def test_a_forbidden_file_gives_its_own_error(tmp_path, monkeypatch):
    """Permission is another thing than absence; root may read all, so the refusal is injected."""

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "x.wav").write_bytes(b"")
    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(SourceForbidden, match="readable"):
        hash_audio(tmp_path / "x.wav")


def test_waiting_yields_results_as_they_come(connection, settings, wait_until):
    """The waiter sleeps in the server and wakes for each event."""
    ids = [entry.job_id for entry in submit(connection, settings, jobs(3))]
    done_before = fail(connection, ids[0])
    got = []
    waiter = threading.Thread(
        target=lambda: got.extend(
            (result.job_id, time.monotonic())
            for result in wait_for_results(connect(settings), ids, 30)
        )
    )
    waiter.start()
    wait_until(lambda: got)
    ended_at = []
    for job_id in ids[1:]:
        fail(connection, job_id)
        ended_at.append(time.monotonic())
    waiter.join(30)
    assert sorted(job_id for job_id, _ in got) == sorted(ids)
    assert got[0][0] == done_before.job_id
    assert got[-1][1] - ended_at[-1] < 2


def test_waiting_does_not_spin(connection, settings):
    """A second of waiting for nothing costs the server a handful of commands."""
    [entry] = submit(connection, settings, [job()])
    before = connection.info("stats")["total_commands_processed"]
    began = time.monotonic()
    assert list(wait_for_results(connection, [entry.job_id], 1.2)) == []
    assert 1.0 < time.monotonic() - began < 5
    assert connection.info("stats")["total_commands_processed"] - before < 12


def test_a_result_that_no_event_announced_is_found_too(connection, settings, monkeypatch):
    """The stream is bounded: a waiter that slept through it looks again."""
    monkeypatch.setattr(queue, "RECHECK_S", 0.2)
    [entry] = submit(connection, settings, [job()])
    expected = Failure.from_error(entry.job_id, Internal("a", "b"))

    def store_silently(_pending):
        connection.set(result_key(entry.job_id), dump_result(expected), ex=60)

    found = wait_for_results(connection, [entry.job_id], 10, tick_s=0.1, on_tick=store_silently)
    assert list(found) == [expected]


@pytest.mark.parametrize(
    ("state", "code"),
    [("canceled", "cancelled"), ("stopped", "cancelled"), ("failed", "worker_lost")],
)
def test_a_job_that_another_rq_program_ended_does_not_block(connection, settings, state, code):
    """No result will ever come, and the waiter is told so."""
    [entry] = submit(connection, settings, [job()])
    connection.hset(job_key(entry.job_id), "status", state)
    [outcome] = wait_for_results(connection, [entry.job_id], 5)
    assert (outcome.job_id, outcome.error.code) == (entry.job_id, code)


def test_an_unknown_job_is_said_to_be_unknown(connection):
    """Also by a wait, which must not hang on a typing mistake."""
    with pytest.raises(JobNotFound, match="nope"):
        job_state(connection, "nope")
    [outcome] = wait_for_results(connection, ["nope"], 5)
    assert outcome.error.code == "job_not_found"


def test_a_tick_may_end_the_wait(connection, settings):
    """That is how a command gives up when nobody is there to work."""
    [entry] = submit(connection, settings, [job()])

    def nobody(pending):
        assert pending == {entry.job_id}
        raise NoWorker("wait", "a worker must be alive")

    with pytest.raises(NoWorker):
        list(wait_for_results(connection, [entry.job_id], on_tick=nobody))


def test_progress_is_read_for_the_jobs_that_have_some(connection):
    """One round trip for all."""
    connection.hset(queue.progress_key("a"), mapping={"seconds_done": "3", "duration_s": "9"})
    connection.expire(queue.progress_key("a"), 60)
    assert read_progress(connection, ["a", "b"]) == {"a": {"seconds_done": "3", "duration_s": "9"}}


def test_only_workers_with_a_fresh_heartbeat_are_alive(connection, settings):
    """A dead worker's record stays for minutes, and a stock one serves other queues."""

    def register(name, beat_s, **fields):
        beat = datetime.fromtimestamp(time.time() - beat_s, UTC)
        stamp = beat.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        connection.sadd("rq:workers", f"rq:worker:{name}")
        record = {"last_heartbeat": stamp, "queues": "low,default", **fields}
        connection.hset(f"rq:worker:{name}", mapping=record)

    register("fresh", 1)
    register("stale", settings.worker.lease_s + 60)
    register("dead", 1, death="2026-01-01T00:00:00.000000Z")
    register("elsewhere", 1, queues="mail,reports")
    connection.sadd("rq:workers", "rq:worker:gone")
    assert live_workers(connection, settings) == ["fresh"]


def test_keys_are_those_of_rq(connection):
    """Our key functions and RQ's classes name the same keys."""
    read = RqJob.create(TASK_NAME, connection=connection, id="x", serializer=JSONSerializer)
    assert job_key("x") == read.key
    assert queue_key("q") == Queue("q", connection=connection).key
    assert Queue.redis_queues_keys == queue.QUEUES_KEY
    for name, registry in (
        ("wip", StartedJobRegistry),
        ("failed", FailedJobRegistry),
        ("canceled", CanceledJobRegistry),
    ):
        assert registry_key(name, "q") == registry.key_template.format("q")


def test_commands_ride_out_a_server_that_restarts(embedded_dir, wait_until):
    """A command in flight does not fail because the server was away for a moment."""
    from producer import embedded

    settings = load_settings(redis={"embedded_dir": embedded_dir})
    with connect(settings) as client:
        submit(client, settings, [job()])
        embedded.stop(settings)
        embedded.ensure_running(settings)
        assert submit(client, settings, [job()])[0].state == "queued"


def test_a_server_that_goes_away_gives_a_typed_error(embedded_dir):
    """The foreign exception is translated."""
    from producer import embedded

    settings = load_settings(redis={"embedded_dir": embedded_dir})
    with connect(settings) as client:
        embedded.stop(settings)
        with pytest.raises(ServerUnreachable, match=str(embedded_dir)):
            job_state(client, "x")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"url": "http://farm"}, "redis.url"),
        ({"url": "redis://:hush@farm:port"}, "redis.url"),
        ({"url": "redis://farm", "ca_certs": "/x"}, "redis.ca_certs.*rediss"),
        ({"url": "rediss://farm", "ca_certs": "/nowhere"}, "redis.ca_certs.*existing file"),
    ],
)
def test_a_wrong_redis_section_is_an_error_of_settings(section, said):
    """Found before anything is sent, and without the password."""
    with pytest.raises(InvalidSettings, match=said) as caught:
        connect(load_settings(redis=section))
    assert "hush" not in str(caught.value)
