"""Commit a job's end: result, RQ status and dependents change in one transaction.

The fence makes the result exactly-once: the transaction runs only while the job hash still holds
the id of the execution that did the work. After a worker's death the work may be done again; its
result is stored once.
"""

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import redis
import structlog
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.results import Result as RQResult
from rq.serializers import JSONSerializer
from rq.utils import utcformat

from producer.events import MAX_EVENTS
from producer.keys import (
    EVENTS_KEY,
    checkpoint_key,
    execution_key,
    executions_key,
    progress_key,
    registry_key,
    result_key,
    worker_executions_key,
    worker_key,
)
from producer.result import Failure, Transcript, outcome_fields
from producer.scripts import Scripts
from producer.server_replies import is_wrong_type
from producer.worker_records import known_as
from worker.farm.endings import Outcome
from worker.farm.job_hash import waited_s
from worker.farm.scripts import LUA_FOLDER

# Fields of ours that an ended job no longer needs. The fence stays: by it a worker whose reply was
# lost recognises its own commit.
_SPENT_FIELDS = (
    "attempts",
    "tries",
    "deaths",
    "excused",
    "death_log",
    "lost_worker",
    "cancel",
    "drifted",
)

# The transaction starts over when dependents are added or finished at the same moment.
_MAX_RACES = 50

_log = structlog.get_logger()


class CommitVerdict(Enum):
    """What became of a commit: stored, or refused by the fence."""

    DONE = "done"
    FENCED_OFF = "fenced_off"


def commit(connection: redis.Redis, outcome: Outcome) -> CommitVerdict:
    """Store a job's end, if the job is still ours; safe to call again after a lost reply.

    Raises:
        PydanticSerializationError: the result cannot be written as JSON.
        redis.RedisError: the server did not answer, or dependents changed in each of 50 tries; call
            again.
    """
    _ = outcome.document
    try:
        return _retry_races(connection, outcome, with_dependents=True)
    except Exception as error:
        if isinstance(error, redis.RedisError) and not is_wrong_type(error):
            raise
        # RQ may raise anything on a damaged dependent of another program; this job ends all the same.
        _log.exception("dependents_unreadable", job_id=outcome.claim.job_id)
        return _retry_races(connection, outcome, with_dependents=False)


def _retry_races(
    connection: redis.Redis, outcome: Outcome, *, with_dependents: bool
) -> CommitVerdict:
    for _ in range(_MAX_RACES):
        with connection.pipeline() as pipe:
            try:
                return _try_commit(connection, pipe, outcome, with_dependents=with_dependents)
            except redis.WatchError:
                continue
    raise redis.WatchError


def _try_commit(
    connection: redis.Redis, pipe: Any, outcome: Outcome, *, with_dependents: bool
) -> CommitVerdict:
    claim = outcome.claim
    job = Job(claim.job_id, connection=connection, serializer=JSONSerializer)
    job.origin = claim.queue
    job._status = outcome.status  # noqa: SLF001 - the job is not read back, its data is not ours to load
    pipe.watch(job.key, job.dependents_key)
    status, fence = pipe.hmget(job.key, "status", "fence")
    if fence is None or fence.decode() != claim.execution_id:
        return CommitVerdict.FENCED_OFF
    if status != b"started":
        # Our own commit, whose reply was lost; any other ending would have another fence.
        return CommitVerdict.DONE if status.decode() == outcome.status else CommitVerdict.FENCED_OFF
    rate_limited = _enqueue_dependents(connection, pipe, job) if with_dependents else {}
    if not pipe.explicit_transaction:
        pipe.multi()
    _store_result(pipe, outcome)
    _store_status(pipe, job, outcome)
    _forget_execution(pipe, outcome)
    scripts = Scripts(connection, LUA_FOLDER, shared="leases")
    scripts.add_to(pipe, "count", job_id=claim.job_id, ended=_counted(outcome))
    pipe.execute()
    if rate_limited:
        Queue(claim.queue, connection=connection).enqueue_ready_jobs_by_queue(rate_limited)
    return CommitVerdict.DONE


def _enqueue_dependents(connection: redis.Redis, pipe: Any, job: Job) -> dict[str, list[str]]:
    """Queue the dependents that this end sets free, in the same transaction.

    Returns those with a rate limit, which RQ can queue only after the transaction.
    """
    dependents = [member.decode() for member in pipe.smembers(job.dependents_key)]
    if not dependents:
        return {}
    pipe.watch(*(Job.key_for(job_id) for job_id in dependents))
    queue = Queue(job.origin, connection=connection, serializer=JSONSerializer)
    ready = queue.move_dependents_to_ready(job, pipeline=pipe, refresh_job_status=False)
    rate_limited: dict[str, list[str]] = {}
    for name, job_ids in ready.items():
        target = Queue(name, connection=connection, serializer=JSONSerializer)
        for freed in Job.fetch_many(job_ids, connection=connection, serializer=JSONSerializer):
            if freed is None:
                continue
            if freed.has_rate_limit:
                rate_limited.setdefault(name, []).append(freed.id)
                continue
            target.ready_job_registry.remove(freed, pipeline=pipe)
            at_front = freed.should_enqueue_at_front()
            # RQ's public way commits on its own; ours must be part of this transaction.
            target._enqueue_job(freed, pipeline=pipe, at_front=at_front)  # noqa: SLF001
    return rate_limited


def _store_result(pipe: Any, outcome: Outcome) -> None:
    claim, result = outcome.claim, outcome.result
    pipe.set(result_key(claim.job_id), outcome.document, ex=_expiry(outcome.ttl_s))
    event = {
        "job_id": claim.job_id,
        "status": result.status,
        "code": result.error.code if isinstance(result, Failure) else "",
        "worker": outcome.worker,
        "batch": outcome.batch or "",
        "trace_id": claim.trace_id,
    }
    pipe.xadd(EVENTS_KEY, event, maxlen=MAX_EVENTS, approximate=True)
    pipe.delete(checkpoint_key(claim.job_id), progress_key(claim.job_id))


def _counted(outcome: Outcome) -> dict[str, Any]:
    """Return what monitors count of an end: see `count_end` in producer/lua/metrics.lua."""
    result, claim = outcome.result, outcome.claim
    counted: dict[str, Any] = {
        "queue": claim.queue,
        "outcome": result.status,
        "code": result.error.code if isinstance(result, Failure) else "",
        "wait_ms": round(1000 * waited_s(claim)),
        "busy_ms": round(1000 * outcome.busy_s),
    }
    if isinstance(result, Transcript):
        of_segments = (flag for segment in result.segments for flag in segment.flags)
        counted |= {
            "worker": known_as(outcome.worker),
            "model": result.model.name,
            "audio_ms": round(1000 * result.audio.duration_s),
            "flags": dict.fromkeys({*result.flags, *of_segments}, 1),
        }
    return counted


def _store_status(pipe: Any, job: Job, outcome: Outcome) -> None:
    ended_s = outcome.claim.claimed_at_s + outcome.busy_s
    ended_at = utcformat(datetime.fromtimestamp(ended_s, UTC))
    ending = {"status": outcome.status.value, "ended_at": ended_at}
    if outcome.foreign_sha256:
        # Whoever submits the id's own audio must not be given this text.
        ending["audio_sha256"] = outcome.foreign_sha256
    pipe.hset(job.key, mapping=ending | outcome_fields(outcome.result))
    pipe.hdel(job.key, *_SPENT_FIELDS)
    if outcome.ttl_s > 0:
        for key in (job.key, job.dependents_key, job.dependencies_key):
            pipe.expire(key, outcome.ttl_s)
    registry = "finished" if outcome.status is JobStatus.FINISHED else "failed"
    until = "+inf" if outcome.ttl_s < 0 else ended_s + outcome.ttl_s
    pipe.zadd(registry_key(registry, job.origin), {job.id: until})
    common: dict[str, Any] = {
        "ttl": outcome.ttl_s,
        "worker_name": outcome.worker,
        "pipeline": pipe,
        "execution_id": outcome.claim.execution_id,
        "execution_started_at": datetime.fromtimestamp(outcome.claim.claimed_at_s, UTC),
        "execution_ended_at": datetime.fromtimestamp(ended_s, UTC),
    }
    if isinstance(outcome.result, Transcript):
        pointer = {"result_key": result_key(job.id), "status": outcome.result.status}
        RQResult.create(job, RQResult.Type.SUCCESSFUL, return_value=pointer, **common)
    else:
        message = f"{outcome.result.error.code}: {outcome.result.error.message}"
        RQResult.create_failure(job, exc_string=message, **common)


def _forget_execution(pipe: Any, outcome: Outcome) -> None:
    claim = outcome.claim
    entry = f"{claim.job_id}:{claim.execution_id}"
    pipe.delete(execution_key(claim.job_id, claim.execution_id))
    pipe.zrem(registry_key("wip", claim.queue), entry)
    pipe.zrem(executions_key(claim.job_id), claim.execution_id)
    pipe.srem(worker_executions_key(outcome.worker), entry)
    counter = (
        "successful_job_count" if isinstance(outcome.result, Transcript) else "failed_job_count"
    )
    worker = worker_key(outcome.worker)
    pipe.hincrby(worker, counter, 1)
    pipe.hincrbyfloat(worker, "total_working_time", round(outcome.busy_s, 6))


def _expiry(ttl_s: int) -> int | None:
    return None if ttl_s < 0 else ttl_s
