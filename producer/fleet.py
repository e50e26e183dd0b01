"""The farm as a whole: which workers are alive, what waits and runs, pause and resume."""

import contextlib
from typing import Any, cast

import redis
from pydantic import BaseModel, ConfigDict, Field
from rq.utils import str_to_date

from producer.batches.views import BatchCounts, count, latest_batches, view_batch
from producer.connection import server_errors, server_time_s
from producer.errors import JobNotFound
from producer.keys import SUSPENDED_KEY, WORKERS_KEY, queue_key, registry_key, worker_key
from producer.settings import Settings

# Batches that are counted for the farm's status.
_NUM_BATCHES = 5


class FarmStatus(BaseModel):
    """Workers, queues and the latest batches at one moment."""

    model_config = ConfigDict(frozen=True)

    is_paused: bool
    workers: list[str]
    queued: dict[str, int] = Field(description="Jobs waiting, by queue.")
    running: dict[str, int] = Field(description="Jobs in hand, by queue.")
    max_queued: int
    batches: dict[str, BatchCounts] = Field(description="The latest ones, the newest first.")


def farm_status(connection: redis.Redis, settings: Settings) -> FarmStatus:
    """Return the farm's status: workers, queues and the latest batches."""
    queues = settings.worker.queues
    with server_errors(connection):
        queued: Any = [connection.llen(queue_key(name)) for name in queues]
        running: Any = [connection.zcard(registry_key("wip", name)) for name in queues]
    batches = {}
    for batch in latest_batches(connection, _NUM_BATCHES):
        # One whose results have expired is forgotten at the next submission.
        with contextlib.suppress(JobNotFound):
            batches[batch] = count(view_batch(connection, batch))
    return FarmStatus(
        is_paused=is_suspended(connection),
        workers=live_workers(connection, settings),
        queued=dict(zip(queues, queued, strict=True)),
        running=dict(zip(queues, running, strict=True)),
        max_queued=settings.queue.max_queued,
        batches=batches,
    )


def live_workers(connection: redis.Redis, settings: Settings) -> list[str]:
    """Return the names of the workers of our queues with a heartbeat younger than a lease."""
    with server_errors(connection):
        keys = sorted(cast("set[bytes]", connection.smembers(WORKERS_KEY)))
        pipeline = connection.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, "last_heartbeat", "death", "queues")
        records = pipeline.execute()
    served = set(settings.worker.queues)
    oldest_s = server_time_s(connection) - settings.worker.lease_s
    return [
        key.decode().removeprefix(worker_key(""))
        for key, (beat, death, queues) in zip(keys, records, strict=True)
        # A stock RQ worker that serves other queues of the same server does not do our jobs.
        if beat and not death and served & set((queues or b"").decode().split(","))
        if str_to_date(beat).timestamp() > oldest_s
    ]


def is_suspended(connection: redis.Redis) -> bool:
    """Return whether the farm is paused."""
    with server_errors(connection):
        return bool(connection.exists(SUSPENDED_KEY))


def pause(connection: redis.Redis, duration_s: int | None = None) -> None:
    """Let no worker claim jobs, for a time or until `resume`; running jobs are finished.

    It is RQ's own switch, so `rq suspend` and `rq resume` do the same.
    """
    with server_errors(connection):
        connection.set(SUSPENDED_KEY, 1, ex=duration_s)


def resume(connection: redis.Redis) -> bool:
    """Let workers claim again; False if the farm was not paused."""
    with server_errors(connection):
        return bool(connection.delete(SUSPENDED_KEY))
