"""The queue: submit jobs, and read where each stands and what came of it.

Jobs are plain RQ job hashes on plain RQ queues (RQ 3.0, JSON serializer), so any RQ program can
read them and enqueue the same task. Transcripts live in keys of our own, because RQ keeps return
values as base64 in a stream.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, cast

import redis

from producer.archive.hash_cache import hash_audio
from producer.connection import server_errors
from producer.errors import JobNotFound, QueueFull
from producer.job import TASK_NAME, Job
from producer.keys import job_key, progress_key, result_key
from producer.paging import pages
from producer.result import Failure, Transcript, read_stored
from producer.rq_data import dump_call
from producer.scripts import Scripts
from producer.server_replies import lenient_replies
from producer.settings import Settings
from producer.stored_fields import stored_text

# One script call holds the server for about 10 ms at this size; larger ones gain nothing.
BATCH_SIZE = 500
# Transcripts of very long recordings have a megabyte or two each.
RESULTS_PAGE = 50


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
) -> list[Submitted]:
    """Enqueue jobs that the farm does not know yet; for the others return where they stand.

    A job's id is a hash of its audio, model and options, so submitting twice is harmless. Failed,
    stopped and cancelled jobs stay as they are unless `resubmit_failed`. Jobs are read and enqueued
    in batches of at most `BATCH_SIZE`, each of them whole or not at all.

    Raises:
        QueueFull: the batch would exceed queue.max_queued; earlier batches stay enqueued.
        SourceNotFound, SourceForbidden, SourceUnreachable: the audio could not be hashed.
        ServerUnreachable: the server went away.
    """
    return [
        submitted
        for batch, neighbours in groupby(jobs, key=lambda job: job.batch)
        for page in pages(neighbours, BATCH_SIZE)
        for submitted in _submit(
            connection, settings, page, batch=batch, queue=queue, resubmit_failed=resubmit_failed
        )
    ]


def job_id_of(job: Job, settings: Settings) -> str:
    """Return the job's id; reads the audio to hash it unless `audio_sha256` is given."""
    return job.content_id(job.audio_sha256 or hash_audio(job.path), model_revision(settings))


def model_revision(settings: Settings) -> str:
    """Return what stands for the weights in a job's id: another model or revision is new work."""
    return f"{settings.model.name}@{settings.model.revision or 'default'}"


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
    *,
    batch: str | None,
    queue: str,
    resubmit_failed: bool,
) -> list[Submitted]:
    """Enqueue up to `BATCH_SIZE` jobs of one batch in one script call."""
    job_ids = [job_id_of(job, settings) for job in jobs]
    names = [job.name or job.source for job in jobs]
    section = settings.queue
    with server_errors(connection):
        verdict, *answer = Scripts(connection).run(
            "submit",
            *(dump_call(TASK_NAME, job.to_kwargs()) for job in jobs),
            queue=queue,
            counted_queues=list(dict.fromkeys((*settings.worker.queues, queue))),
            limit=section.max_queued,
            job_ttl_s=section.job_ttl_s,
            result_ttl_s=section.result_ttl_s,
            resubmit_failed=resubmit_failed,
            batch=batch,
            jobs=list(zip(job_ids, names, strict=True)),
        )
    if verdict == b"full":
        raise QueueFull("submit", f"queue.max_queued is {section.max_queued} waiting jobs", *answer)
    return [
        Submitted(job_id, state.decode(), bool(is_new))
        for job_id, state, is_new in zip(job_ids, answer[::2], answer[1::2], strict=True)
    ]
