"""The farm as a whole: which workers are alive, what waits and runs, pause and resume."""

import contextlib
from typing import cast

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.counts import read_counts
from producer.batches.running import Running, running_files
from producer.batches.views import BatchCounts, latest_batches
from producer.connection import server_errors, server_time_s
from producer.errors import JobNotFound
from producer.keys import SUSPENDED_KEY, WORKERS_KEY, worker_key
from producer.models_served import count_jobs, farm_queues
from producer.rq_data import parse_time
from producer.settings import Settings

# Batches that are counted for the farm's status.
_NUM_BATCHES = 5


_WORKER_FIELDS = (
    "last_heartbeat",
    "death",
    "queues",
    "model",
    "revision",
    "state",
    "capacity",
    "in_flight",
    "lost_threads",
    "sleeps_until",
)


class WorkerView(BaseModel):
    """What a worker said of itself with its last heartbeat.

    Attributes:
        model, revision: Of the pinned weights; "" if another program's worker did not say.
        state: RQ's word: busy, idle, started, suspended.
        capacity: Recordings that it takes at once.
        in_flight: Recordings that it has in hand.
        lost_threads: Reading threads that hang in a share; at 8 it claims nothing more.
        heartbeat_age_s: Seconds since the heartbeat, by the server's clock.
        sleeps_until_s: When its active hours begin, seconds since the epoch; None while it works.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    queues: tuple[str, ...] = ()
    model: str = ""
    revision: str = ""
    state: str = ""
    capacity: int = 0
    in_flight: int = 0
    lost_threads: int = 0
    heartbeat_age_s: float = 0.0
    sleeps_until_s: float | None = None


class FarmStatus(BaseModel):
    """Workers, queues and the latest batches at one moment."""

    model_config = ConfigDict(frozen=True)

    is_paused: bool
    workers: list[WorkerView]
    queued: dict[str, int] = Field(description="Jobs waiting, by queue.")
    running: dict[str, int] = Field(description="Jobs in hand, by queue.")
    running_files: list[Running] = Field([], description="The files in hand.")
    queued_by_model: dict[str, int] = Field(
        {}, description='Jobs waiting, by the model that they name; "" is any.'
    )
    max_queued: int
    batches: dict[str, BatchCounts] = Field(description="The latest ones, the newest first.")


def farm_status(connection: redis.Redis, settings: Settings) -> FarmStatus:
    """Return the farm's status: workers, queues and the latest batches."""
    with server_errors(connection):
        queues = farm_queues(connection, settings.worker.queues)
    queued, running, queued_by_model = count_jobs(connection, settings.worker.queues)
    batches = {}
    for batch in latest_batches(connection, _NUM_BATCHES):
        # One whose results have expired is forgotten at the next submission.
        with contextlib.suppress(JobNotFound):
            batches[batch] = read_counts(connection, batch)
    return FarmStatus(
        is_paused=is_suspended(connection),
        workers=live_workers(connection, settings),
        queued=queued,
        running=running,
        running_files=running_files(connection, queues),
        queued_by_model=queued_by_model,
        max_queued=settings.queue.max_queued,
        batches=batches,
    )


def live_workers(connection: redis.Redis, settings: Settings) -> list[WorkerView]:
    """Return the workers of our queues with a heartbeat younger than a lease, by name."""
    with server_errors(connection):
        keys = sorted(cast("set[bytes]", connection.smembers(WORKERS_KEY)))
        pipeline = connection.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, _WORKER_FIELDS)
        records = pipeline.execute()
    now_s = server_time_s(connection)
    views = (
        _worker_view(key.decode(errors="replace").removeprefix(worker_key("")), record, now_s)
        for key, record in zip(keys, records, strict=True)
    )
    served = set(settings.worker.queues)
    return [
        view
        for view in views
        # A stock RQ worker that serves other queues of the same server does not do our jobs.
        if view and served & set(view.queues) and view.heartbeat_age_s < settings.worker.lease_s
    ]


def _worker_view(name: str, record: list[bytes | None], now_s: float) -> WorkerView | None:
    """Read a worker's record; None without a heartbeat, or if it has ended."""
    texts = [(value or b"").decode(errors="replace") for value in record]
    fields = dict(zip(_WORKER_FIELDS, texts, strict=True))
    try:
        beat_s = parse_time(fields["last_heartbeat"])
    except ValueError:
        return None
    if fields["death"]:
        return None
    return WorkerView(
        name=name,
        queues=tuple(fields["queues"].split(",")),
        model=fields["model"],
        revision=fields["revision"],
        state=fields["state"],
        capacity=_number(fields["capacity"]),
        in_flight=_number(fields["in_flight"]),
        lost_threads=_number(fields["lost_threads"]),
        heartbeat_age_s=now_s - beat_s,
        sleeps_until_s=float(_number(fields["sleeps_until"])) or None,
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


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
