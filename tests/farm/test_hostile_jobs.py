"""What one job's data could do to the farm, each on a real server: the job ends, the worker lives."""

import json

import pytest

from producer.events import ALL_KINDS, read_events
from producer.keys import (
    checkpoint_key,
    executions_key,
    job_key,
    progress_key,
    queue_key,
    registry_key,
    result_key,
    rq_results_key,
)
from producer.queue import read_result
from tests.farm.test_farm_security import data, push, refused
from tests.stage.fake_engine import expected_text, job, source
from tests.stage.farm import wait_until
from worker.farm import commit
from worker.farm.scripts import FarmScripts


def nested(depth):
    """Return lists within lists."""
    return json.loads("[" * depth + "]" * depth)


@pytest.mark.parametrize(
    "metadata", [{"original": "caf\udce9.wav"}, {"a": nested(300)}, {"a": nested(101)}]
)
def test_metadata_that_no_result_can_hold_is_refused_again_at_the_claim(farm, metadata):
    """Another program's producer checks nothing."""
    farm.start()
    kwargs = {"source": source("a"), "metadata": metadata}
    result = refused(farm, push(farm, data=data(kwargs=kwargs)))
    assert (result.error.code, result.error.context) == ("invalid_options", "job: metadata")


@pytest.mark.parametrize("field", ["result_ttl", "failure_ttl", "timeout"])
@pytest.mark.parametrize("value", [315_360_001, 10**18, 10**400])
def test_a_time_beyond_ten_years_is_refused_with_the_limit(farm, field, value):
    """Redis would refuse it in the middle of the commit."""
    farm.start()
    result = refused(farm, push(farm, data=data(), **{field: str(value)}))
    assert result.error.code == "job_refused"
    assert "315360000" in result.error.message


@pytest.mark.parametrize(
    "intervals",
    [b"[" * 5000, b"[1e400]", b"[Infinity]", b"[-1]", b"[86401]", b"[1" + b",1" * 200 + b"]"],
)
def test_retry_intervals_that_make_no_sense_count_as_none(farm, intervals):
    """The job is tried again at once, and done."""
    farm.start()
    kwargs = {"source": source("a", error="source_unreachable", error_at=1, once=1)}
    fields = {"retry_intervals": intervals, "retries_left": "3"}
    job_id = push(farm, data=data(kwargs=kwargs), **fields)
    assert farm.result(job_id).status == "succeeded"


@pytest.mark.parametrize("job_id", ["user:42", b"\xff\xfe", "a b", "x\n", "é"])
def test_an_id_that_rq_does_not_take_is_set_aside(farm, job_id):
    """It counts as failed, is in no queue and under no lease, and is never claimed again."""
    key = b"rq:job:" + (job_id if isinstance(job_id, bytes) else job_id.encode())
    farm.connection.hset(key, mapping={"status": "queued", "data": data()})
    farm.connection.rpush(queue_key("default"), job_id)
    farm.start()
    (good,) = farm.submit(job("good"))
    assert farm.result(good).status == "succeeded"
    assert farm.connection.hmget(key, "status", "code") == [b"failed", b"internal"]
    assert farm.connection.ttl(key) > 0
    assert farm.leftovers() == []


@pytest.mark.parametrize(
    "key_of", [result_key, checkpoint_key, progress_key, executions_key, rq_results_key]
)
def test_a_job_whose_keys_are_of_another_type_is_done_all_the_same(farm, key_of):
    """Its neighbours do not notice."""
    asked = job("a", windows=4, window_s=0.3)
    farm.connection.rpush(key_of("odd"), "x")
    push(farm, "odd", data=data(kwargs=asked.to_kwargs()))
    (neighbour,) = farm.submit(job("b"))
    farm.start()
    assert farm.result(neighbour).status == "succeeded"
    wait_until(lambda: farm.state("odd") == "finished")
    assert read_result(farm.connection, "odd").text == expected_text(asked.source)
    farm.connection.delete(key_of("odd"))


def test_a_job_that_is_no_job_any_more_is_dropped_from_the_leases(farm):
    """Somebody replaced the hash of a job at work; the reaper gets past it."""
    farm.configure(lease_s=0.05, heartbeat_s=0.02)
    dead = FarmScripts(farm.connection, farm.settings, "dead")
    farm.submit(job("a"))
    (claim,) = dead.claim(1, suspects=1)
    farm.connection.delete(job_key(claim.job_id))
    farm.connection.set(job_key(claim.job_id), "no hash")
    peer = FarmScripts(farm.connection, farm.settings, "peer")
    wait_until(
        lambda: [*peer.reap(), not farm.connection.zcard(registry_key("wip", "default"))][-1]
    )
    assert farm.connection.zcard(registry_key("wip", "default")) == 0


def test_a_job_that_cannot_be_ended_is_set_aside(farm, monkeypatch):
    """Whatever the reason: the worker goes on with the next."""

    def refuses(connection, outcome):
        if outcome.claim.job_id == "odd":
            raise ZeroDivisionError
        return commit.commit(connection, outcome)

    monkeypatch.setattr("worker.farm.fenced_writes.commit", refuses)
    push(farm, "odd", data=data())
    farm.start()
    (good,) = farm.submit(job("good"))
    assert farm.result(good).status == "succeeded"
    wait_until(lambda: farm.state("odd") == "failed")
    assert farm.field("odd", "code") == "internal"
    assert farm.leftovers() == []
    assert "odd" in farm.commits()


def test_a_job_that_is_taken_over_leaves_an_event(farm):
    """It names the lost worker; who reads ends does not see it."""
    farm.configure(lease_s=0.05, heartbeat_s=0.02)
    (job_id,) = farm.submit(job("a"))
    FarmScripts(farm.connection, farm.settings, "lost").claim(1, suspects=1)
    peer = FarmScripts(farm.connection, farm.settings, "peer")
    wait_until(peer.reap)
    (event,) = read_events(farm.connection, kinds=ALL_KINDS)
    assert (event.kind, event.job_id, event.worker) == ("job_taken_over", job_id, "lost")
    assert list(read_events(farm.connection)) == []


@pytest.mark.parametrize("ttl", ["inf", "1e30", "nan"])
def test_a_ttl_that_is_none_keeps_no_job_from_being_given_back(farm, ttl):
    """Neither it nor those that are given back with it."""
    first, second = farm.submit(job("a"), job("b"))
    farm.connection.hset(job_key(first), "ttl", ttl)
    worker = farm.start()
    for job_id in (first, second):
        assert farm.result(job_id).status == "succeeded"
    slow = farm.submit(job("c", windows=50, window_s=0.2), job("d", windows=50, window_s=0.2))
    farm.connection.hset(job_key(slow[0]), "ttl", ttl)
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in slow))
    farm.configure(grace_s=0.1)
    worker.worker._settings = farm.settings
    worker.worker.drain()
    worker.wait()
    assert [farm.state(job_id) for job_id in slow] == ["queued", "queued"]
