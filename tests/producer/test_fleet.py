"""The farm as a whole: who counts as alive, pause and resume, its status."""

import time
from datetime import UTC, datetime

from producer.batches.views import BatchCounts, note_batch
from producer.fleet import farm_status, is_suspended, live_workers, pause, resume
from producer.keys import SUSPENDED_KEY
from producer.queue import submit
from tests.producer.known_jobs import jobs


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
    assert [worker.name for worker in live_workers(connection, settings)] == ["fresh"]


def test_a_pause_ends_after_its_time_or_by_resume(connection):
    """It is the key that RQ's own workers look at."""
    assert not is_suspended(connection)
    assert resume(connection) is False
    pause(connection, 60)
    assert is_suspended(connection)
    assert 0 < connection.ttl(SUSPENDED_KEY) <= 60
    assert resume(connection) is True
    assert not is_suspended(connection)


def test_the_farms_status_counts_jobs_by_queue_and_files_of_the_latest_batches(
    connection, settings
):
    """A batch that has expired is left out."""
    submit(connection, settings, jobs(2, batch="night"), queue="low")
    note_batch(connection, settings, "expired")
    note_batch(connection, settings, "night")
    status = farm_status(connection, settings)
    assert status.queued == {"high": 0, "default": 0, "low": 2}
    assert status.running == {"high": 0, "default": 0, "low": 0}
    assert status.batches == {"night": BatchCounts(total=2, queued=2)}
    assert (status.is_paused, status.workers) == (False, [])
