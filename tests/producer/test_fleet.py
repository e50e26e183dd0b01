"""The farm as a whole: who counts as alive."""

import time
from datetime import UTC, datetime

from producer.fleet import live_workers


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
