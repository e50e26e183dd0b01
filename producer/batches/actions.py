"""What an operator does to jobs: try again, cancel. One atomic script call for each page of jobs."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import redis

from producer.batches.views import view_batch
from producer.connection import server_errors
from producer.errors import Cancelled, JobRefused
from producer.keys import job_key
from producer.paging import pages
from producer.plain_json import as_text, check_json
from producer.queue import BATCH_SIZE
from producer.result import Failure, dump_result
from producer.rq_data import load_call
from producer.scripts import Scripts
from producer.server_replies import lenient_replies
from producer.settings import Settings
from producer.source import shown_source
from producer.traces import TRACEPARENT_FIELD, trace_id_of

# As long as a job's source may be.
_MAX_TEXT_CHARS = 4096


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
    scripts, job_ttl_s = Scripts(connection), settings.queue.job_ttl_s
    for page in _unique_pages(job_ids):
        with server_errors(connection):
            verdicts = scripts.run("requeue", job_ttl_s=job_ttl_s, job_ids=page)
        yield from (job_id for job_id, done in zip(page, verdicts, strict=True) if done)


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
    scripts, ttl_s = Scripts(connection), settings.queue.result_ttl_s
    for page in _unique_pages(job_ids):
        with server_errors(connection):
            jobs = [
                (job_id, _cancelled(job_id, kwargs, trace_id), _text(kwargs.get("batch")))
                for job_id, (kwargs, trace_id) in zip(
                    page, _read_kwargs(connection, page), strict=True
                )
            ]
            verdicts = scripts.run("cancel", ttl_s=ttl_s, jobs=jobs)
        for job_id, verdict in zip(page, verdicts, strict=True):
            if verdict:
                yield Cancellation(job_id, verdict.decode())


def _unique_pages(job_ids: Iterable[str]) -> Iterator[list[str]]:
    """Group ids for one call each; an id that comes twice in a page is taken once."""
    return (list(dict.fromkeys(page)) for page in pages(job_ids, BATCH_SIZE))


def _read_kwargs(
    connection: redis.Redis, job_ids: list[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the keyword arguments and the trace of each job; none where they cannot be read."""
    pipeline = connection.pipeline(transaction=False)
    for job_id in job_ids:
        pipeline.hmget(job_key(job_id), "data", TRACEPARENT_FIELD)
    for reply in lenient_replies(pipeline):
        data, traceparent = reply or (None, None)
        try:
            *_, kwargs = load_call(data or b"")
        except JobRefused:
            kwargs = {}
        yield kwargs if isinstance(kwargs, dict) else {}, trace_id_of(traceparent)


def _cancelled(job_id: str, kwargs: dict[str, Any], trace_id: str) -> str:
    error = Cancelled("job", "was cancelled before it started", job_id)
    metadata = kwargs.get("metadata")
    try:
        check_json(metadata)
    except ValueError:
        metadata = None
    metadata = metadata if isinstance(metadata, dict) else {}
    source = shown_source(_text(kwargs.get("source")))
    fields = {"source": source, "metadata": metadata, "trace_id": trace_id}
    return dump_result(Failure.from_error(job_id, error, **fields))


def _text(value: object) -> str:
    """Return a job's own text as every reader takes it; "" for what is none."""
    return as_text(value, _MAX_TEXT_CHARS) if isinstance(value, str) else ""
