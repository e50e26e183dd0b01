"""The queue: submit jobs, read results, wait for them. Every Redis key is made here.

Jobs are plain RQ job hashes on plain RQ queues (RQ 3.0, JSON serializer), so any RQ program can
read them and enqueue the same task. Transcripts live in keys of our own, because RQ keeps return
values as base64 in a stream.
"""

import hashlib
import json
import stat
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import redis
from rq.defaults import RQ_KEY_PREFIX
from rq.utils import str_to_date, utcformat

from producer.connection import connect, server_errors
from producer.errors import (
    Cancelled,
    JobNotFound,
    QueueFull,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    WorkerLost,
)
from producer.job import TASK_NAME, Job
from producer.result import Failure, Transcript, parse_result
from producer.settings import Settings

__all__ = [
    "EVENTS_KEY",
    "QUEUES_KEY",
    "WORKERS_KEY",
    "Submitted",
    "batch_key",
    "connect",
    "hash_audio",
    "job_id_of",
    "job_key",
    "job_state",
    "live_workers",
    "model_revision",
    "progress_key",
    "queue_key",
    "read_progress",
    "read_result",
    "registry_key",
    "result_key",
    "rq_results_key",
    "submit",
    "submit_iter",
    "wait_for_results",
]

EVENTS_KEY = "scribefarm:events"
# Batch names by the time of their last submission, pruned by queue.result_ttl_s.
BATCHES_KEY = "scribefarm:batches"
QUEUES_KEY = f"{RQ_KEY_PREFIX}:queues"
WORKERS_KEY = f"{RQ_KEY_PREFIX}:workers"

# One script call holds the server for about 10 ms at this size; larger ones gain nothing.
BATCH_SIZE = 500
HASH_BLOCK_BYTES = 1 << 20
# A blocking read must return before the socket's own timeout fires.
WAIT_BLOCK_S = 2.0
# Results that no event announced (trimmed stream, other program) are looked up this often.
RECHECK_S = 5.0
LOOKUP_SIZE = 1000
# States that RQ gives to jobs that ended without a transcript.
ENDED_BADLY = frozenset({"failed", "stopped", "canceled"})


def result_key(job_id: str) -> str:
    """Key of a job's result, JSON as in `producer.result`; expires after queue.result_ttl_s."""
    return f"scribefarm:result:{job_id}"


def progress_key(job_id: str) -> str:
    """Key of the hash that says how far a running job is."""
    return f"scribefarm:progress:{job_id}"


def checkpoint_key(job_id: str) -> str:
    """Key of the JSON from which another worker goes on; expires after queue.job_ttl_s."""
    return f"scribefarm:checkpoint:{job_id}"


def batch_key(batch: str) -> str:
    """Key of a batch's hash, name -> job id; expires after queue.result_ttl_s."""
    return f"scribefarm:batch:{batch}"


def job_key(job_id: str) -> str:
    """Key of RQ's job hash."""
    return f"{RQ_KEY_PREFIX}:job:{job_id}"


def rq_results_key(job_id: str) -> str:
    """Key of RQ's own stream of outcomes of a job."""
    return f"{RQ_KEY_PREFIX}:results:{job_id}"


def queue_key(queue: str) -> str:
    """Key of RQ's list of waiting job ids."""
    return f"{RQ_KEY_PREFIX}:queue:{queue}"


def registry_key(registry: str, queue: str) -> str:
    """Key of an RQ registry: `wip`, `finished`, `failed`, `canceled`, `scheduled`, `deferred`."""
    return f"{RQ_KEY_PREFIX}:{registry}:{queue}"


class Submitted(NamedTuple):
    """What became of one submitted job: its id, its RQ state, and whether this call enqueued it."""

    job_id: str
    state: str
    is_new: bool


_SUBMIT = (Path(__file__).parent / "lua" / "submit.lua").read_text()


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
    stopped and cancelled jobs stay as they are unless `resubmit_failed`. Each batch of
    `BATCH_SIZE` jobs is enqueued whole or not at all.

    Raises:
        QueueFull: the batch would exceed queue.max_queued; earlier batches stay enqueued.
        SourceNotFound, SourceForbidden, SourceUnreachable: the audio could not be hashed.
        ServerUnreachable: the server went away.
    """
    return list(
        submit_iter(connection, settings, jobs, queue=queue, resubmit_failed=resubmit_failed)
    )


def submit_iter(
    connection: redis.Redis,
    settings: Settings,
    jobs: Iterable[Job],
    *,
    queue: str = "default",
    resubmit_failed: bool = False,
) -> Iterator[Submitted]:
    """Do as `submit`, batch by batch, holding only one batch in memory."""
    script = connection.register_script(_SUBMIT)
    for batch, chunk in _chunks(jobs):
        entries = [(job_id_of(job, settings), job) for job in chunk]
        keys, args = _submit_arguments(settings, queue, batch, entries)
        with server_errors(connection):
            args[3:5] = [int(resubmit_failed), _server_time(connection)]
            verdict, *answer = script(keys=keys, args=args)
        if verdict == b"full":
            limit = settings.queue.max_queued
            raise QueueFull("submit", f"queue.max_queued is {limit} waiting jobs", answer[0])
        states = zip(answer[::2], answer[1::2], strict=True)
        for (job_id, _), (state, is_new) in zip(entries, states, strict=True):
            yield Submitted(job_id, state.decode(), bool(is_new))


def job_id_of(job: Job, settings: Settings) -> str:
    """Return the job's id; reads the audio to hash it unless `audio_sha256` is given."""
    return job.content_id(job.audio_sha256 or hash_audio(job.path), model_revision(settings))


def model_revision(settings: Settings) -> str:
    """Return what stands for the weights in a job's id: another model or revision is new work."""
    return f"{settings.model.name}@{settings.model.revision or 'default'}"


def hash_audio(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hex, reading a block at a time.

    Raises:
        SourceNotFound: there is no such file; folders, pipes and devices are none.
        SourceForbidden: we may not read it.
        SourceUnreachable: the disk or share gave an error.
    """
    digest = hashlib.sha256()
    try:
        # Before it is opened: a pipe would block us, a device may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceNotFound("submit", "must be a regular file", path)
        with path.open("rb") as audio:
            while block := audio.read(HASH_BLOCK_BYTES):
                digest.update(block)
    # ValueError: a NUL in the name.
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise SourceNotFound("submit", "must be an existing file", path) from error
    except PermissionError as error:
        raise SourceForbidden("submit", "must be readable", path) from error
    except OSError as error:
        raise SourceUnreachable("submit", f"must be readable: {error.strerror}", path) from error
    return digest.hexdigest()


def job_state(connection: redis.Redis, job_id: str) -> str:
    """Return a job's RQ state: queued, started, finished, failed, stopped, canceled, ...

    Raises:
        JobNotFound: the server does not know the job.
    """
    with server_errors(connection):
        state = cast("bytes | None", connection.hget(job_key(job_id), "status"))
        if state is None and connection.exists(result_key(job_id)):
            return "finished"
    if state is None:
        raise JobNotFound("job", "must be known to the server", job_id)
    return state.decode()


def read_result(connection: redis.Redis, job_id: str) -> Transcript | Failure | None:
    """Return the job's outcome, or None while there is none."""
    with server_errors(connection):
        stored = connection.get(result_key(job_id))
    return None if stored is None else parse_result(stored)


def read_progress(connection: redis.Redis, job_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the progress hashes of those of the jobs that have one, by job id."""
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(progress_key(job_id))
        hashes = pipeline.execute()
    return {
        job_id: {field.decode(): value.decode() for field, value in fields.items()}
        for job_id, fields in zip(job_ids, hashes, strict=True)
        if fields
    }


def wait_for_results(
    connection: redis.Redis,
    job_ids: Iterable[str],
    timeout_s: float | None = None,
    *,
    tick_s: float = WAIT_BLOCK_S,
    on_tick: Callable[[set[str]], None] | None = None,
) -> Iterator[Transcript | Failure]:
    """Yield each job's outcome as it comes; end when all have come or the time is out.

    Sleeps in the server on the events stream between looks. `on_tick` is called with the ids
    still missing, about every `tick_s`; an exception it raises ends the wait. A job that ended
    without a result (cancelled by another RQ tool, expired) yields a `Failure` that says so.
    """
    pending = set(job_ids)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    last_event = _last_event(connection)
    due, recheck_at = set(pending), time.monotonic() + RECHECK_S
    while pending:
        for outcome in _outcomes(connection, due):
            pending.discard(outcome.job_id)
            yield outcome
        left_s = tick_s if deadline is None else min(tick_s, deadline - time.monotonic())
        if not pending or left_s <= 0:
            return
        if on_tick is not None:
            on_tick(pending)
        last_event, named = _read_events(connection, last_event, min(left_s, WAIT_BLOCK_S))
        due = pending & named
        if time.monotonic() >= recheck_at:
            due, recheck_at = set(pending), time.monotonic() + RECHECK_S


def live_workers(connection: redis.Redis, settings: Settings) -> list[str]:
    """Return the names of the workers of our queues with a heartbeat younger than a lease."""
    with server_errors(connection):
        keys = sorted(cast("set[bytes]", connection.smembers(WORKERS_KEY)))
        pipeline = connection.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, "last_heartbeat", "death", "queues")
        records = pipeline.execute()
        now_s = _server_seconds(connection)
    served = set(settings.worker.queues)
    oldest_s = now_s - settings.worker.lease_s
    return [
        key.decode().removeprefix(f"{RQ_KEY_PREFIX}:worker:")
        for key, (beat, death, queues) in zip(keys, records, strict=True)
        # A stock RQ worker that serves other queues of the same server does not do our jobs.
        if beat and not death and served & set((queues or b"").decode().split(","))
        if str_to_date(beat).timestamp() > oldest_s
    ]


def _chunks(jobs: Iterable[Job]) -> Iterator[tuple[str | None, list[Job]]]:
    """Group neighbours of the same batch, at most `BATCH_SIZE` together."""
    for batch, neighbours in groupby(jobs, key=lambda job: job.batch):
        while chunk := list(islice(neighbours, BATCH_SIZE)):
            yield batch, chunk


def _submit_arguments(
    settings: Settings, queue: str, batch: str | None, entries: list[tuple[str, Job]]
) -> tuple[list[str], list[Any]]:
    waiting = [queue_key(name) for name in dict.fromkeys((*settings.worker.queues, queue))]
    keys = [queue_key(queue), QUEUES_KEY, batch_key(batch or ""), *waiting]
    section = settings.queue
    args: list[Any] = [len(waiting), section.max_queued, section.job_ttl_s, 0, ""]
    args += [queue, section.result_ttl_s, int(batch is not None), RQ_KEY_PREFIX]
    for job_id, job in entries:
        keys += [job_key(job_id), result_key(job_id), progress_key(job_id), rq_results_key(job_id)]
        args += [job_id, _job_data(job), job.name or job.source]
    return keys, args


def _job_data(job: Job) -> bytes:
    """Return RQ's `data` field: function, instance, args and kwargs in JSON, compressed."""
    return zlib.compress(json.dumps([TASK_NAME, None, [], job.to_kwargs()]).encode())


def _server_seconds(connection: redis.Redis) -> float:
    seconds, micros = connection.time()
    return float(seconds) + micros / 1e6


def _server_time(connection: redis.Redis) -> str:
    """Return the server's time as RQ writes it, so that queue times do not mix two clocks."""
    return str(utcformat(datetime.fromtimestamp(_server_seconds(connection), UTC)))


def _last_event(connection: redis.Redis) -> bytes:
    with server_errors(connection):
        newest = connection.xrevrange(EVENTS_KEY, count=1)
    return cast("bytes", newest[0][0]) if newest else b"0-0"


def _read_events(connection: redis.Redis, after: bytes, block_s: float) -> tuple[bytes, set[str]]:
    """Wait for events; return the last one's id and the job ids that they name."""
    with server_errors(connection):
        # 0 would block for ever.
        block_ms = max(1, int(block_s * 1000))
        streams: Any = connection.xread({EVENTS_KEY: after}, count=LOOKUP_SIZE, block=block_ms)
    entries = streams[0][1] if streams else []
    named = {fields[b"job_id"].decode() for _, fields in entries if b"job_id" in fields}
    return (entries[-1][0] if entries else after), named


def _outcomes(connection: redis.Redis, job_ids: set[str]) -> Iterator[Transcript | Failure]:
    remaining = iter(job_ids)
    while chunk := list(islice(remaining, LOOKUP_SIZE)):
        with server_errors(connection):
            pipeline = connection.pipeline(transaction=False)
            for job_id in chunk:
                # State first: a job that has ended by then has its result by now.
                pipeline.hget(job_key(job_id), "status")
            pipeline.mget([result_key(job_id) for job_id in chunk])
            *states, results = pipeline.execute()
        for job_id, state, stored in zip(chunk, states, results, strict=True):
            if stored is not None:
                yield parse_result(stored)
            elif state is None or state.decode() in ENDED_BADLY:
                yield _without_result(job_id, state)


def _without_result(job_id: str, state: bytes | None) -> Failure:
    error: ScribefarmError
    if state is None:
        error = JobNotFound("job", "must be known to the server", job_id)
    elif state == b"failed":
        error = WorkerLost("job", "ended without a result, outside the farm", job_id)
    else:
        error = Cancelled("job", "was cancelled by another program", job_id)
    return Failure.from_error(job_id, error)
