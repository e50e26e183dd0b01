"""The queue: submit jobs, and read where each stands and what came of it.

Jobs are plain RQ job hashes on plain RQ queues (RQ 3.0, JSON serializer), so any RQ program can
read them and enqueue the same task. Transcripts live in keys of our own, because RQ keeps return
values as base64 in a stream.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple, cast

import redis

from producer.archive.hash_cache import hash_audio
from producer.connection import server_errors
from producer.errors import InvalidOptions, JobNotFound, QueueFull
from producer.job import TASK_NAME, AudioOptions, Job
from producer.keys import job_key, model_queue, progress_key, result_key
from producer.paging import pages
from producer.result import Failure, Transcript, read_stored
from producer.rq_data import dump_call
from producer.scripts import Scripts
from producer.server_replies import lenient_replies
from producer.settings import Settings
from producer.source import is_fetched, is_remote, shown_source
from producer.spans import span
from producer.stored_fields import stored_text
from producer.traces import TraceParent, traceparent_here
from producer.versions import source_version

# One script call holds the server for about 10 ms at this size; larger ones gain nothing.
BATCH_SIZE = 500
# Transcripts of very long recordings have a megabyte or two each.
RESULTS_PAGE = 50


class _Request(NamedTuple):
    """What all jobs of one call have in common."""

    queue: str
    traceparent: TraceParent
    resubmit_failed: bool


class Submitted(NamedTuple):
    """What became of one submitted job: its id, its RQ state, and whether this call enqueued it."""

    job_id: str
    state: str
    is_new: bool


def submit(
    connection: redis.Redis,
    settings: Settings,
    jobs: Iterable[Job],
    *,
    queue: str = "default",
    resubmit_failed: bool = False,
    traceparent: TraceParent | None = None,
) -> list[Submitted]:
    """Enqueue jobs that the farm does not know yet; for the others return where they stand.

    A job that names no model asks for that of the settings, and waits in its model's queue.
    A job's id is a hash of its audio, model and options, so submitting twice is harmless. Failed,
    stopped and cancelled jobs stay as they are unless `resubmit_failed`. Jobs are read and enqueued
    in batches of at most `BATCH_SIZE`, each of them whole or not at all. A transcript of other
    audio than the job's (another program gave it this id) counts as none. New jobs belong to the
    trace that `traceparent` or the environment names, or to one of their own together.

    Raises:
        QueueFull: the batch would exceed queue.max_queued; earlier batches stay enqueued.
        SourceNotFound, SourceForbidden, SourceUnreachable: the audio could not be hashed, or its
            server does not say what version it has.
        ServerUnreachable: the server went away.
    """
    with span("submit", traceparent or traceparent_here()) as parent:
        request = _Request(queue, parent, resubmit_failed=resubmit_failed)
        return [
            submitted
            for batch, neighbours in groupby(jobs, key=lambda job: job.batch)
            for page in pages(neighbours, BATCH_SIZE)
            for submitted in _submit(connection, settings, page, batch, request)
        ]


def job_id_of(job: Job, settings: Settings) -> str:
    """Return the job's id; hashes the audio, or asks its server, unless that was done."""
    return _complete(job, settings)[0]


def with_defaults(job: Job, settings: Settings) -> Job:
    """Return the job with a model and how it is read: its own, or what the settings say.

    The model of the settings comes at the revision pinned there.
    """
    pinned = settings.model
    read_as = job.audio or settings.audio.for_job()
    # What is the default needs no place in a million jobs' data.
    taken: dict[str, Any] = {"audio": None if read_as == AudioOptions() else read_as}
    if job.revision is None and job.model in {None, pinned.name}:
        taken |= {"model": pinned.name, "revision": pinned.revision}
    return job.model_copy(update=taken)


def _complete(job: Job, settings: Settings) -> tuple[str, Job]:
    """Return the job's id, and the job with all that the id is made of."""
    named = with_defaults(job, settings)
    if named.identity is None:
        found = _identified(job, settings)
        named = named.model_copy(update=found)
    return named.content_id(str(named.identity)), named


def _identified(job: Job, settings: Settings) -> dict[str, Any]:
    """Return the field of a job that stands for its audio."""
    if is_remote(job.source):
        return {"version": source_version(job.source, settings.audio)}
    if is_fetched(job.source):
        raise InvalidOptions("job", "audio_sha256 must be given of an upload", job.source)
    return {"audio_sha256": hash_audio(job.path)}


def job_state(connection: redis.Redis, job_id: str) -> str:
    """Return a job's RQ state: queued, started, finished, failed, stopped, canceled, ...

    Raises:
        JobNotFound: the server does not know the job.
    """
    with server_errors(connection):
        (state,) = lenient_replies(
            connection.pipeline(transaction=False).hget(job_key(job_id), "status")
        )
        if state is None and connection.exists(result_key(job_id)):
            return "finished"
    if state is None:
        raise JobNotFound("job", "must be known to the server", job_id)
    return stored_text(state)


def foreign_audio(connection: redis.Redis, job_id: str) -> str | None:
    """Return the hash of the audio of a finished job's transcript, if it is not the id's own.

    None is the ordinary case: the worker read what the id is made of.
    """
    with server_errors(connection):
        stored = cast("bytes | None", connection.hget(job_key(job_id), "audio_sha256"))
    return stored.decode(errors="replace") if stored is not None else None


def read_result(connection: redis.Redis, job_id: str) -> Transcript | Failure | None:
    """Return the job's outcome, or None while there is none."""
    return next(read_results(connection, [job_id]))


def read_results(
    connection: redis.Redis, job_ids: Iterable[str]
) -> Iterator[Transcript | Failure | None]:
    """Yield the outcome of each job in turn, or None; `RESULTS_PAGE` of them are held at a time.

    A result that this version cannot read comes as a `Failure` with code `unreadable`.
    """
    for page in pages(job_ids, RESULTS_PAGE):
        with server_errors(connection):
            stored = connection.mget([result_key(job_id) for job_id in page])
        yield from (
            None if result is None else read_stored(job_id, result)
            for job_id, result in zip(page, cast("list[bytes | None]", stored), strict=True)
        )


def read_progress(connection: redis.Redis, job_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the progress hashes of those of the jobs that have one, by job id."""
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(progress_key(job_id))
        hashes = lenient_replies(pipeline)
    return {
        job_id: {stored_text(field): stored_text(value) for field, value in fields.items()}
        for job_id, fields in zip(job_ids, hashes, strict=True)
        if fields
    }


def _submit(
    connection: redis.Redis,
    settings: Settings,
    jobs: list[Job],
    batch: str | None,
    request: _Request,
) -> list[Submitted]:
    """Enqueue up to `BATCH_SIZE` jobs of one batch in one script call."""
    complete = [_complete(job, settings) for job in jobs]
    section = settings.queue
    with server_errors(connection):
        verdict, *answer = Scripts(connection).run(
            "submit",
            *(dump_call(TASK_NAME, job.to_kwargs()) for _, job in complete),
            counted_queues=list(dict.fromkeys((*settings.worker.queues, request.queue))),
            limit=section.max_queued,
            job_ttl_s=section.job_ttl_s,
            result_ttl_s=section.result_ttl_s,
            resubmit_failed=request.resubmit_failed,
            traceparent=str(request.traceparent),
            batch=batch,
            jobs=[_record(job_id, job, request.queue) for job_id, job in complete],
        )
    if verdict == b"full":
        raise QueueFull("submit", f"queue.max_queued is {section.max_queued} waiting jobs", *answer)
    return [
        Submitted(job_id, state.decode(errors="replace"), bool(is_new))
        for (job_id, _), state, is_new in zip(complete, answer[::2], answer[1::2], strict=True)
    ]


def _record(job_id: str, job: Job, queue: str) -> tuple[str, ...]:
    """Return what the script must know of a job, beside its data."""
    own_queue = model_queue(queue, job.model, job.revision)
    return job_id, job.name or shown_source(job.source), own_queue, job.audio_sha256 or ""
