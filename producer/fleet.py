"""The farm as a whole: which workers are alive, what waits and runs, pause and resume."""

import contextlib

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.counts import read_counts
from producer.batches.running import Running, running_files
from producer.batches.views import BatchCounts, latest_batches
from producer.connection import server_errors
from producer.errors import JobNotFound
from producer.keys import SUSPENDED_KEY
from producer.models_served import count_jobs, farm_queues
from producer.roster import read_roster
from producer.scripts import Scripts
from producer.settings import Settings
from producer.worker_records import WorkerRecord

# Batches that are counted for the farm's status.
_NUM_BATCHES = 5


class FarmStatus(BaseModel):
    """Workers, queues and the latest batches at one moment."""

    model_config = ConfigDict(frozen=True)

    is_paused: bool
    workers: list[WorkerRecord]
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


def live_workers(connection: redis.Redis, settings: Settings) -> list[WorkerRecord]:
    """Return the workers of our queues whose leases have not run out, by name.

    A stock RQ worker of these queues is one if its heartbeat is younger than our lease.
    """
    return read_roster(connection, settings).alive


def is_suspended(connection: redis.Redis) -> bool:
    """Return whether the farm is paused."""
    with server_errors(connection):
        return bool(connection.exists(SUSPENDED_KEY))


def pause(connection: redis.Redis, duration_s: int | None = None) -> None:
    """Let no worker claim jobs, for a time or until `resume`; running jobs are finished.

    It is RQ's own switch, so `rq suspend` and `rq resume` do the same.
    """
    with server_errors(connection):
        Scripts(connection).run("pause_farm", is_paused=True, duration_s=duration_s)


def resume(connection: redis.Redis) -> bool:
    """Let workers claim again; False if the farm was not paused."""
    with server_errors(connection):
        return bool(Scripts(connection).run("pause_farm", is_paused=False))
