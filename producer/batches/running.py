"""The files that workers have in hand, found in RQ's registries of started jobs."""

import json
from collections.abc import Collection, Iterator
from typing import Any

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.connection import server_errors
from producer.errors import JobRefused
from producer.keys import job_key, registry_key
from producer.queue import read_progress
from producer.rq_data import load_call
from producer.source import shown_source
from producer.stored_fields import stored_number, stored_text

# Jobs in hand that are looked at in each queue: forty workers with 25 recordings each.
MAX_RUNNING = 1000


class Running(BaseModel):
    """A file that a worker is transcribing."""

    model_config = ConfigDict(frozen=True)

    name: str
    job_id: str
    worker: str = ""
    batches: tuple[str, ...] = ()
    seconds_done: float = 0.0
    duration_s: float | None = None
    text: str = Field("", description="The latest words.")

    @property
    def part_done(self) -> float:
        """Return how much of the file is done, from 0 to 1."""
        return min(1.0, self.seconds_done / self.duration_s) if self.duration_s else 0.0


def running_files(
    connection: redis.Redis,
    queues: Collection[str],
    batch: str | None = None,
    most: int = MAX_RUNNING,
) -> list[Running]:
    """Return the files in hand of some queues, those of one batch or all.

    At most `most` are looked at in each queue, those first that were heard of the longest ago.
    """
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for queue in queues:
            pipeline.zrange(registry_key("wip", queue), 0, most - 1)
        entries = [stored_text(entry) for page in pipeline.execute() for entry in page]
        job_ids = list(dict.fromkeys(entry.rpartition(":")[0] for entry in entries))
        for job_id in job_ids:
            pipeline.hmget(job_key(job_id), "status", "batches", "worker_name")
        records = pipeline.execute()
        workers, batches_of = {}, {}
        for job_id, (status, stored_batches, worker) in zip(job_ids, records, strict=True):
            batches = tuple(_batches(stored_batches))
            if status == b"started" and (batch is None or batch in batches):
                workers[job_id], batches_of[job_id] = stored_text(worker), batches
        for job_id in workers:
            pipeline.hget(job_key(job_id), "data")
        stored = pipeline.execute()
    names = [_name(data) for data in stored]
    progress = read_progress(connection, workers)
    return [
        _running(name or job_id, job_id, worker, batches_of[job_id], progress.get(job_id, {}))
        for name, (job_id, worker) in zip(names, workers.items(), strict=True)
    ]


def _batches(stored: bytes | None) -> Collection[str]:
    try:
        entries = json.loads(stored or b"{}")
    except (ValueError, RecursionError):
        return ()
    return entries if isinstance(entries, dict) else ()


def _name(data: bytes | None) -> str:
    """Return what the submission that first asked for the job calls its file."""
    try:
        *_, kwargs = load_call(data or b"")
    except JobRefused:
        return ""
    return next(_texts(kwargs), "")


def _texts(kwargs: Any) -> Iterator[str]:
    asked = kwargs if isinstance(kwargs, dict) else {}
    return (shown_source(str(asked[key])) for key in ("name", "source") if asked.get(key))


def _running(
    name: str, job_id: str, worker: str, batches: tuple[str, ...], fields: dict[str, str]
) -> Running:
    return Running(
        name=name,
        job_id=job_id,
        worker=worker,
        batches=batches,
        seconds_done=stored_number(fields.get("seconds_done")),
        duration_s=stored_number(fields.get("duration_s")) or None,
        text=fields.get("text", ""),
    )
