"""Where a batch stands: counts, what runs, speed and time left, cheap enough to ask every second.

Everything comes from the counts that the scripts keep and from the registries of started jobs, so a
look costs the same for a million files as for ten, and nothing is kept between two looks.
"""

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.counts import read_tally
from producer.batches.running import Running, running_files
from producer.batches.runs import Run
from producer.batches.views import BatchCounts
from producer.connection import server_errors
from producer.fleet import is_suspended, live_workers
from producer.keys import queue_key, registry_key
from producer.models_served import batch_models, farm_queues, queued_by_model, unserved
from producer.settings import Settings
from producer.worker_records import WorkerRecord


class BatchStatus(BaseModel):
    """A batch at one moment: counts, what runs, speed and time left."""

    model_config = ConfigDict(frozen=True)

    batch: str
    counts: BatchCounts
    run: Run = Run()
    running: list[Running] = []
    workers: list[WorkerRecord] = []
    is_paused: bool = False
    files_per_s: float | None = Field(None, description="In the run's working time.")
    audio_hours_per_hour: float | None = Field(
        None, description="In the last ten minutes of work; None before anything was done."
    )
    eta_s: float | None = Field(
        None, description="Seconds of work until the batch is done; None if nothing is known."
    )
    models: list[str] = Field([], description="Models that its files ask for.")
    unserved: dict[str, int] = Field(
        {}, description="Jobs of the farm that wait for these models, where no worker has one."
    )

    @property
    def is_done(self) -> bool:
        """Return whether every file has ended."""
        return self.counts.left == 0


def batch_status(
    connection: redis.Redis, settings: Settings, batch: str, *, recount: bool = False
) -> BatchStatus:
    """Return a batch's status; with `recount` its files are counted anew first.

    Raises:
        JobNotFound: the server does not know the batch.
        ServerUnreachable: the server does not answer.
    """
    tally = read_tally(connection, batch, anew=recount)
    with server_errors(connection):
        queues = farm_queues(connection, settings.worker.queues)
    running = running_files(connection, queues, batch) if tally.counts.left else []
    if tally.counts.left and not running and _is_empty(connection, queues):
        # Nobody could end what is left: another program deleted it, or it expired.
        tally = read_tally(connection, batch, doubt=True)
    run = Run.from_tally(tally)
    workers = live_workers(connection, settings)
    models = batch_models(connection, batch)
    return BatchStatus(
        batch=batch,
        counts=tally.counts,
        run=run,
        running=running,
        workers=workers,
        is_paused=is_suspended(connection),
        files_per_s=run.files_per_s,
        audio_hours_per_hour=run.audio_s_per_s,
        eta_s=time_left_s(tally.counts, run, running),
        models=models,
        unserved=_unserved(connection, settings, models, workers) if tally.counts.left else {},
    )


def _unserved(
    connection: redis.Redis, settings: Settings, models: list[str], workers: list[WorkerRecord]
) -> dict[str, int]:
    """Return the waiting jobs of the farm by those of the models that no worker has."""
    queued = queued_by_model(connection, settings.worker.queues)
    return unserved({model: num for model, num in queued.items() if model in models}, workers)


def time_left_s(counts: BatchCounts, run: Run, running: list[Running]) -> float | None:
    """Return the seconds of work until a batch is done; None if nothing is known.

    What runs says how much of it is left; the other files are taken to be as long as those that
    have ended, failed ones included, since as many of the others will fail.
    """
    lengths_s = [file.duration_s for file in running if file.duration_s]
    num_others = max(0, counts.left - len(lengths_s))
    mean_s = _mean_length_s(counts) or (sum(lengths_s) / len(lengths_s) if lengths_s else 0.0)
    if run.audio_s_per_s and (mean_s or not num_others):
        in_hand_s = sum(lengths_s) - sum(
            min(file.seconds_done, file.duration_s) for file in running if file.duration_s
        )
        return (in_hand_s + num_others * mean_s) / run.audio_s_per_s
    if run.files_per_s:
        return (counts.left - sum(file.part_done for file in running)) / run.files_per_s
    return None if counts.left else 0.0


def _mean_length_s(counts: BatchCounts) -> float:
    num_worked = counts.succeeded + counts.failed - counts.failed_by_code.get("cancelled", 0)
    return counts.audio_s / num_worked if num_worked else 0.0


def _is_empty(connection: redis.Redis, queues: list[str]) -> bool:
    """Return whether no job of some queues waits."""
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for queue in queues:
            pipeline.exists(
                queue_key(queue), registry_key("scheduled", queue), registry_key("deferred", queue)
            )
        return not any(pipeline.execute())
