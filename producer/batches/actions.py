"""What an operator does to jobs: try again, cancel. Each is one atomic script a thousand jobs."""

import json
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import utcformat

from producer.batches.views import view_batch
from producer.connection import server_errors
from producer.errors import Cancelled
from producer.queue import (
    BATCH_SIZE,
    EVENTS_KEY,
    checkpoint_key,
    job_key,
    progress_key,
    result_key,
    rq_results_key,
)
from producer.result import Failure, dump_result
from producer.settings import Settings

# The same bound as the worker's own events.
MAX_EVENTS = 100_000

_REQUEUE = (Path(__file__).parents[1] / "lua" / "requeue.lua").read_text()
_CANCEL = (Path(__file__).parents[1] / "lua" / "cancel.lua").read_text()


class Cancellation(NamedTuple):
    """What cancelling one job did: it waited and has ended, or it runs and will end soon."""

    job_id: str
    outcome: Literal["cancelled", "cancelling"]


def retry_batch(
    connection: redis.Redis, settings: Settings, batch: str, codes: Iterable[str] = ()
) -> list[str]:
    """Enqueue the failed jobs of a batch again, those of some codes or all; return their ids.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    wanted = set(codes)
    failed = (
        view.job_id
        for view in view_batch(connection, batch)
        if view.state == "failed" and (not wanted or view.code in wanted)
    )
    return list(retry_jobs(connection, settings, failed))


def retry_jobs(
    connection: redis.Redis, settings: Settings, job_ids: Iterable[str]
) -> Iterator[str]:
    """Enqueue failed jobs again and yield their ids; jobs in another state are left alone."""
    script = connection.register_script(_REQUEUE)
    for chunk in _chunks(job_ids):
        keys = [key for job_id in chunk for key in _job_keys(job_id)]
        with server_errors(connection):
            now, _ = _server_time(connection)
            args: list[Any] = [RQ_KEY_PREFIX, now, settings.queue.job_ttl_s, *chunk]
            verdicts = script(keys=keys, args=args)
        yield from (job_id for job_id, done in zip(chunk, verdicts, strict=True) if done)


def cancel_batch(connection: redis.Redis, settings: Settings, batch: str) -> list[Cancellation]:
    """Cancel what is left of a batch.

    A job that stands in other batches, too, is cancelled for all of them.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    left = (view.job_id for view in view_batch(connection, batch) if not view.is_done)
    return list(cancel_jobs(connection, settings, left))


def cancel_jobs(
    connection: redis.Redis, settings: Settings, job_ids: Iterable[str]
) -> Iterator[Cancellation]:
    """Cancel jobs that wait or run, and yield what was done; others are left alone."""
    script = connection.register_script(_CANCEL)
    for chunk in _chunks(job_ids):
        keys: list[str] = [EVENTS_KEY]
        args: list[Any] = [RQ_KEY_PREFIX]
        for job_id in chunk:
            keys += [job_key(job_id), result_key(job_id)]
        with server_errors(connection):
            args += [*_server_time(connection), settings.queue.result_ttl_s, MAX_EVENTS]
            for job_id, asked in zip(chunk, _asked(connection, chunk), strict=True):
                args += [job_id, _cancelled(job_id, asked), asked.get("batch") or ""]
            verdicts = script(keys=keys, args=args)
        for job_id, verdict in zip(chunk, verdicts, strict=True):
            if verdict:
                yield Cancellation(job_id, verdict.decode())


def _chunks(job_ids: Iterable[str]) -> Iterator[list[str]]:
    """Group ids for one call each; an id that comes twice in a group is taken once."""
    stream = iter(job_ids)
    while chunk := list(dict.fromkeys(islice(stream, BATCH_SIZE))):
        yield chunk


def _job_keys(job_id: str) -> list[str]:
    return [
        job_key(job_id),
        result_key(job_id),
        progress_key(job_id),
        checkpoint_key(job_id),
        rq_results_key(job_id),
    ]


def _server_time(connection: redis.Redis) -> tuple[str, str]:
    """Return the server's time as RQ writes it, and in seconds since the epoch."""
    seconds, micros = connection.time()
    stamp = utcformat(datetime.fromtimestamp(seconds + micros / 1e6, UTC))
    return str(stamp), f"{seconds}.{micros:06d}"


def _asked(connection: redis.Redis, job_ids: list[str]) -> list[dict[str, Any]]:
    """Return the keyword arguments of jobs; none where they cannot be read."""
    pipeline = connection.pipeline(transaction=False)
    for job_id in job_ids:
        pipeline.hget(job_key(job_id), "data")
    return [_read_kwargs(data) for data in pipeline.execute()]


def _read_kwargs(data: bytes | None) -> dict[str, Any]:
    try:
        _, _, _, kwargs = json.loads(zlib.decompress(data or b""))
    except (ValueError, TypeError, zlib.error):
        return {}
    return kwargs if isinstance(kwargs, dict) else {}


def _cancelled(job_id: str, asked: dict[str, Any]) -> str:
    error = Cancelled("job", "was cancelled before it started", job_id)
    source, metadata = str(asked.get("source", "")), asked.get("metadata", {})
    return dump_result(Failure.from_error(job_id, error, source=source, metadata=metadata))
