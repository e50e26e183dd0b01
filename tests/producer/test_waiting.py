"""Waiting for results: woken by events, never spinning, ended by whoever gives up."""

import threading
import time

import pytest

from producer import waiting
from producer.connection import connect
from producer.errors import Internal, JobNotFound, NoWorker
from producer.keys import job_key, result_key
from producer.pending import PendingJobs
from producer.queue import job_state, submit
from producer.result import Failure, dump_result
from producer.waiting import wait_for_results
from producer.worker_watch import WorkerWatch
from tests.producer.known_jobs import fail, job, jobs


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
    monkeypatch.setattr(waiting, "RECHECK_S", 0.2)
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
        assert list(pending) == [entry.job_id]
        raise NoWorker("wait", "a worker must be alive")

    with pytest.raises(NoWorker):
        list(wait_for_results(connection, [entry.job_id], on_tick=nobody))


def test_a_waiter_looks_up_a_slice_of_a_large_batch_at_a_time(connection, settings, monkeypatch):
    """Each job in its turn, so that none is forgotten and the server never pauses."""
    monkeypatch.setattr(waiting, "RECHECK_S", 0.0)
    monkeypatch.setattr(waiting, "_SLICE", 10)
    ids = [entry.job_id for entry in submit(connection, settings, jobs(100))]
    expected = Failure.from_error(max(ids), Internal("a", "b"))
    costs, before = [], 0

    def measure(_pending):
        nonlocal before
        calls = connection.info("commandstats")["cmdstat_hget"]["calls"]
        costs.append(calls - before)
        before = calls
        if len(costs) == 2:
            connection.set(result_key(max(ids)), dump_result(expected), ex=60)

    found = wait_for_results(connection, ids, 30, tick_s=0.01, on_tick=measure)
    assert next(found) == expected
    found.close()
    assert set(costs[1:]) == {10}
    assert len(costs) >= 10


def test_a_wait_for_a_worker_ends_after_its_time(connection, settings):
    """At once for a command; after its own time for a program that asked for it."""
    [entry] = submit(connection, settings, [job()])
    pending = PendingJobs([entry.job_id])
    with pytest.raises(NoWorker):
        WorkerWatch(connection, settings)(pending)
    WorkerWatch(connection, settings, 60.0)(pending)
    watch = WorkerWatch(connection, settings, 0.3)
    with pytest.raises(NoWorker, match="jobs waited for: 1"):
        list(wait_for_results(connection, pending, 20, tick_s=0.1, on_tick=watch))


def test_pending_jobs_are_a_set_with_names():
    """A job is taken out with all its names, and may come again under another one."""
    pending = PendingJobs()
    assert pending.add([("a", "1"), ("copy", "1"), ("b", "2"), ("b", "2")]) == 3
    assert (len(pending), list(pending)) == (3, ["1", "2"])
    assert sorted(pending.names_of("1")) == ["a", "copy"]
    pending.finish("1")
    assert ("1" in pending, "2" in pending, len(pending)) == (False, True, 1)
    assert pending.add([("a", "1"), ("new", "1")]) == 1
    assert pending.names_of("1") == ["new"]
    assert [pending.next_slice(1) for _ in range(3)] == [["1"], ["2"], []]
    assert pending.next_slice(5) == ["1", "2"]
