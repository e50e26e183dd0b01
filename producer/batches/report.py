"""The morning's report on a batch: what was done, how fast, what failed, what to look at.

Counts come from the jobs' hashes; of the results only failed and flagged ones are read.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.views import BatchCounts, FileView, count, view_batch
from producer.errors import advice_for
from producer.queue import read_results
from producer.result import ErrorRecord, Failure, Transcript

_NUM_SLOWEST = 10


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class FailedFile(_Part):
    """One failed file and its error."""

    name: str
    job_id: str
    error: ErrorRecord | None = Field(None, description="None if the result has expired.")
    attempts: int = Field(0, description="Tries that are known, the last one included.")


class FailureGroup(_Part):
    """The files that failed with one code."""

    code: str
    count: int
    advice: str
    files: list[FailedFile]


class FlaggedSegment(_Part):
    """A stretch of text that a person should look at, and why."""

    name: str
    start: float
    end: float
    text: str
    flags: list[str]


class SlowFile(_Part):
    """A file that took long, from its claim to its result."""

    name: str
    took_s: float
    audio_s: float


class Report(_Part):
    """All that is worth knowing about a batch in the morning.

    Attributes:
        wall_s: Seconds from the first start to the last end.
        audio_hours_per_hour: Audio over `wall_s`.
    """

    batch: str
    created_at: datetime
    counts: BatchCounts
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    wall_s: float | None = None
    audio_hours_per_hour: float | None = None
    files_per_hour: float | None = None
    files_by_worker: dict[str, int] = {}
    failures: list[FailureGroup] = []
    flagged: list[FlaggedSegment] = []
    slowest: list[SlowFile] = []


def make_report(connection: redis.Redis, batch: str) -> Report:
    """Return the report on a batch, finished or not.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    views = list(view_batch(connection, batch))
    counts = count(views)
    started = [view.started_at_s for view in views if view.started_at_s is not None]
    ended = [view.ended_at_s for view in views if view.ended_at_s is not None]
    enqueued = [view.enqueued_at_s for view in views if view.enqueued_at_s is not None]
    wall_s = max(ended) - min(started) if started and ended else None
    return Report(
        batch=batch,
        created_at=datetime.now(UTC),
        counts=counts,
        submitted_at=_time(min(enqueued, default=None)),
        started_at=_time(min(started, default=None)),
        ended_at=_time(max(ended, default=None)),
        wall_s=wall_s,
        audio_hours_per_hour=counts.audio_s / wall_s if wall_s else None,
        files_per_hour=3600 * counts.done / wall_s if wall_s else None,
        files_by_worker=dict(Counter(view.worker for view in views if view.worker).most_common()),
        failures=group_failures(connection, views),
        flagged=list(_flagged(connection, views)),
        slowest=_slowest(views),
    )


def group_failures(connection: redis.Redis, views: Iterable[FileView]) -> list[FailureGroup]:
    """Return the failed files by error code, the most frequent first, each with its error."""
    groups: defaultdict[str, list[FailedFile]] = defaultdict(list)
    failed = [view for view in views if view.state == "failed"]
    results = read_results(connection, (view.job_id for view in failed))
    for view, result in zip(failed, results, strict=True):
        if isinstance(result, Failure):
            tries = len(result.attempts) or 1
            file = FailedFile(
                name=view.name, job_id=view.job_id, error=result.error, attempts=tries
            )
        else:
            file = FailedFile(name=view.name, job_id=view.job_id)
        groups[view.code].append(file)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [
        FailureGroup(
            code=code,
            count=len(files),
            advice=advice_for(code),
            files=sorted(files, key=lambda file: file.name),
        )
        for code, files in ordered
    ]


def _flagged(connection: redis.Redis, views: Iterable[FileView]) -> Iterator[FlaggedSegment]:
    flagged = [view for view in views if view.state == "succeeded" and view.num_flagged]
    results = read_results(connection, (view.job_id for view in flagged))
    for view, result in zip(flagged, results, strict=True):
        if isinstance(result, Failure):
            message = f"({result.error.message})"
            flags = [result.error.code]
            yield FlaggedSegment(name=view.name, start=0, end=0, text=message, flags=flags)
        if not isinstance(result, Transcript):
            continue
        for segment in result.segments:
            if segment.flags:
                yield FlaggedSegment(
                    name=view.name,
                    start=segment.start,
                    end=segment.end,
                    text=segment.text,
                    flags=segment.flags,
                )


def _slowest(views: Iterable[FileView]) -> list[SlowFile]:
    ended = (
        SlowFile(name=view.name, took_s=view.ended_at_s - view.started_at_s, audio_s=view.audio_s)
        for view in views
        if view.ended_at_s is not None and view.started_at_s is not None
    )
    return heapq.nlargest(_NUM_SLOWEST, ended, key=lambda file: file.took_s)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
