"""Batches: which files belong together, and where each stands.

A batch is a hash name -> job id. A job may stand in many batches and under many names, since the
same audio with the same options is one job, so counts here are of files.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.connection import server_errors
from producer.errors import JobNotFound
from producer.keys import BATCHES_KEY, batch_key, job_key
from producer.paging import pages
from producer.queue import read_result
from producer.result import outcome_fields
from producer.rq_data import parse_time
from producer.server_replies import lenient_replies
from producer.settings import Settings
from producer.states import State, state_of
from producer.stored_fields import stored_number, stored_text

# Files looked up in one call.
_PAGE = 1000

_FIELDS = (
    "status",
    "code",
    "audio_s",
    "num_flagged",
    "is_empty",
    "worker_name",
    "enqueued_at",
    "started_at",
    "ended_at",
)


class FileView(NamedTuple):
    """Where one file of a batch stands.

    Attributes:
        state: `waiting` is for another job or for its next try; `lost` is unknown to the server.
        code: Error code of a failed file.
        audio_s: Seconds of audio, once known.
        num_flagged: Segments that a person should look at.
        is_empty: The transcript has no text.
        enqueued_at_s, started_at_s, ended_at_s: Seconds since the epoch.
    """

    name: str
    job_id: str
    state: State
    code: str = ""
    audio_s: float = 0.0
    num_flagged: int = 0
    is_empty: bool = False
    worker: str = ""
    enqueued_at_s: float | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None

    @property
    def is_done(self) -> bool:
        """Return whether the file has ended: without a retry its state will not change."""
        return self.state in {"succeeded", "failed", "lost"}


class BatchCounts(BaseModel):
    """How many files of a batch stand where."""

    model_config = ConfigDict(frozen=True)

    total: int = 0
    queued: int = 0
    running: int = 0
    waiting: int = Field(0, description="For their next try, or for another job.")
    succeeded: int = 0
    failed: int = 0
    lost: int = Field(0, description="Unknown to the server: expired, or deleted by somebody.")
    failed_by_code: dict[str, int] = {}
    audio_s: float = Field(0.0, description="Seconds of audio of the files that succeeded.")
    num_flagged: int = Field(0, description="Segments that a person should look at.")
    num_empty: int = Field(0, description="Files that succeeded without any text.")

    @property
    def done(self) -> int:
        """Return how many files have ended."""
        return self.succeeded + self.failed + self.lost

    @property
    def left(self) -> int:
        """Return how many files are still to be done."""
        return self.total - self.done


def batch_exists(connection: redis.Redis, batch: str) -> bool:
    """Return whether the server knows the batch."""
    with server_errors(connection):
        return bool(connection.exists(batch_key(batch)))


def batch_size(connection: redis.Redis, batch: str) -> int:
    """Return how many files the batch has.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    with server_errors(connection):
        num_files = int(connection.hlen(batch_key(batch)))
    if not num_files:
        raise JobNotFound("batch", "must be known to the server", batch)
    return num_files


def batch_files(connection: redis.Redis, batch: str) -> Iterator[tuple[str, str]]:
    """Yield (name, job id) of each file, once, a page at a time.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    batch_size(connection, batch)
    # A scan may repeat a field while the hash grows.
    seen: set[int] = set()
    with server_errors(connection):
        for name, job_id in connection.hscan_iter(batch_key(batch), count=_PAGE):
            if hash(name) not in seen:
                seen.add(hash(name))
                yield stored_text(name), stored_text(job_id)


def view_files(connection: redis.Redis, files: Iterable[tuple[str, str]]) -> Iterator[FileView]:
    """Yield where each file stands, looked up a thousand at a time."""
    for page in pages(files, _PAGE):
        with server_errors(connection):
            pipeline = connection.pipeline(transaction=False)
            for _, job_id in page:
                pipeline.hmget(job_key(job_id), _FIELDS)
            records = lenient_replies(pipeline)
        for (name, job_id), record in zip(page, records, strict=True):
            fields = record or (None,) * len(_FIELDS)
            yield _view(connection, name, job_id, dict(zip(_FIELDS, fields, strict=True)))


def view_batch(connection: redis.Redis, batch: str) -> Iterator[FileView]:
    """Yield where each file of a batch stands.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    return view_files(connection, batch_files(connection, batch))


def count(views: Iterable[FileView]) -> BatchCounts:
    """Count the files of a batch by where they stand."""
    states: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    audio_s, num_flagged, num_empty = 0.0, 0, 0
    for view in views:
        states[view.state] += 1
        if view.state == "failed":
            codes[view.code] += 1
        if view.state == "succeeded":
            audio_s += view.audio_s
            num_flagged += view.num_flagged
            num_empty += view.is_empty
    return BatchCounts(
        total=states.total(),
        failed_by_code=dict(codes.most_common()),
        audio_s=round(audio_s, 3),
        num_flagged=num_flagged,
        num_empty=num_empty,
        **states,
    )


def note_batch(connection: redis.Redis, settings: Settings, batch: str) -> None:
    """List a batch as the latest, and forget those whose results have expired."""
    now_s = time.time()
    with server_errors(connection):
        pipeline = connection.pipeline()
        pipeline.zadd(BATCHES_KEY, {batch: now_s})
        pipeline.zremrangebyscore(BATCHES_KEY, 0, now_s - settings.queue.result_ttl_s)
        pipeline.expire(BATCHES_KEY, settings.queue.result_ttl_s)
        pipeline.execute()


def latest_batches(connection: redis.Redis, limit: int = 10, offset: int = 0) -> list[str]:
    """Return the batches that were submitted to last, the latest first."""
    with server_errors(connection):
        names: Any = connection.zrevrange(BATCHES_KEY, offset, offset + limit - 1)
    return [stored_text(name) for name in names]


def _view(connection: redis.Redis, name: str, job_id: str, record: dict[str, Any]) -> FileView:
    state = state_of(stored_text(record["status"]))
    if state == "lost" or (state in {"succeeded", "failed"} and record["code"] is None):
        # Another program's worker, or an expired hash: the result itself says more.
        return _view_result(connection, name, job_id, state, record)
    return FileView(
        name=name,
        job_id=job_id,
        state=state,
        code=stored_text(record["code"]),
        audio_s=stored_number(record["audio_s"]),
        num_flagged=int(stored_number(record["num_flagged"])),
        is_empty=record["is_empty"] == b"1",
        worker=stored_text(record["worker_name"]),
        enqueued_at_s=_seconds(record["enqueued_at"]),
        started_at_s=_seconds(record["started_at"]),
        ended_at_s=_seconds(record["ended_at"]),
    )


def _view_result(
    connection: redis.Redis, name: str, job_id: str, state: State, record: dict[str, Any]
) -> FileView:
    result = read_result(connection, job_id)
    if result is None:
        # Finished without a result means that the result has expired.
        return FileView(name, job_id, "failed" if state == "failed" else "lost", code="unknown")
    fields = outcome_fields(result)
    return FileView(
        name=name,
        job_id=job_id,
        state=result.status,
        code=fields["code"],
        audio_s=stored_number(fields["audio_s"]),
        num_flagged=int(stored_number(fields["num_flagged"])),
        is_empty=fields["is_empty"] == "1",
        worker=result.worker,
        enqueued_at_s=_seconds(record["enqueued_at"]),
        started_at_s=_seconds(record["started_at"]),
        ended_at_s=_seconds(record["ended_at"]),
    )


def _seconds(stamp: bytes | None) -> float | None:
    """Read RQ's time; None for what is no time."""
    try:
        return parse_time(stamp) if stamp else None
    except (ValueError, AttributeError, TypeError, OverflowError):
        return None
