"""The morning's report on a batch: what was done, how fast, what failed, what to look at.

Numbers of files come from the jobs' hashes; only failed and flagged results are read themselves.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.advice import advice_for
from producer.batches.views import BatchCounts, FileView, count, view_batch
from producer.connection import server_errors
from producer.formats import format_timestamp
from producer.queue import result_key
from producer.result import ErrorRecord, Failure, Transcript, parse_result

_NUM_SLOWEST = 10
# As a table; the JSON has all of them. One that nobody can read to its end helps nobody.
_MAX_FLAGGED_ROWS = 200
_PAGE = 50


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
    failed = (view for view in views if view.state == "failed")
    for view, result in _with_results(connection, failed):
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


def to_markdown(report: Report) -> str:
    """Return the report as a Markdown document."""
    sections = (
        _summary(report),
        _failure_section(report),
        _flagged_section(report),
        _slowest_section(report),
    )
    return "\n".join(line for section in sections for line in section)


def audio_length(seconds: float) -> str:
    """Return a duration for people: `45.2 s`, `12.0 min` or `3.5 h`."""
    if seconds < 60:  # noqa: PLR2004 a minute
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"  # noqa: PLR2004


def _summary(report: Report) -> Iterator[str]:
    counts = report.counts
    yield f"# Batch {_cell(report.batch)}"
    yield ""
    state = "Done" if not counts.left else f"{counts.left} of {counts.total} files still to do"
    yield f"{state}, as of {_stamp(report.created_at)}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| files | {counts.total} |"
    yield f"| succeeded | {counts.succeeded} |"
    yield f"| failed | {counts.failed} |"
    if counts.lost:
        yield f"| expired or deleted | {counts.lost} |"
    if counts.left:
        yield f"| queued, running, waiting | {counts.queued}, {counts.running}, {counts.waiting} |"
    yield f"| audio transcribed | {audio_length(counts.audio_s)} |"
    yield f"| segments to review | {counts.num_flagged} |"
    if report.started_at and report.ended_at and report.wall_s is not None:
        yield f"| worked | {_stamp(report.started_at)} to {_stamp(report.ended_at)} |"
        yield f"| wall time | {audio_length(report.wall_s)} |"
    if report.audio_hours_per_hour is not None:
        yield f"| audio hours per hour | {report.audio_hours_per_hour:.1f} |"
        yield f"| files per hour | {report.files_per_hour:.0f} |"
    for worker, num_files in report.files_by_worker.items():
        yield f"| files done by {_cell(worker)} | {num_files} |"
    yield ""


def _failure_section(report: Report) -> Iterator[str]:
    if not report.failures:
        return
    yield "## Failures"
    yield ""
    for group in report.failures:
        yield f"### {group.code or 'unknown'}: {group.count}"
        yield ""
        yield group.advice
        yield ""
        for file in group.files:
            reason = file.error.message if file.error else "the result has expired"
            yield f"- {_code(file.name)}: {_cell(reason)}"
        yield ""


def _flagged_section(report: Report) -> Iterator[str]:
    if not report.flagged:
        return
    yield "## Segments to review"
    yield ""
    if len(report.flagged) > _MAX_FLAGGED_ROWS:
        yield f"The first {_MAX_FLAGGED_ROWS} of {len(report.flagged)}; `--json` has all."
        yield ""
    yield "| file | from | to | why | text |"
    yield "|---|---|---|---|---|"
    for segment in report.flagged[:_MAX_FLAGGED_ROWS]:
        start, end = format_timestamp(segment.start), format_timestamp(segment.end)
        why, text = ", ".join(segment.flags), _cell(segment.text.strip())
        yield f"| {_code(segment.name)} | {start} | {end} | {why} | {text} |"
    yield ""


def _slowest_section(report: Report) -> Iterator[str]:
    if not report.slowest:
        return
    yield "## Slowest files"
    yield ""
    yield "| file | took | audio |"
    yield "|---|---|---|"
    for file in report.slowest:
        audio = audio_length(file.audio_s)
        yield f"| {_code(file.name)} | {audio_length(file.took_s)} | {audio} |"
    yield ""


def _flagged(connection: redis.Redis, views: Iterable[FileView]) -> Iterator[FlaggedSegment]:
    flagged = (view for view in views if view.state == "succeeded" and view.num_flagged)
    for view, result in _with_results(connection, flagged):
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


def _with_results(
    connection: redis.Redis, views: Iterable[FileView]
) -> Iterator[tuple[FileView, Transcript | Failure | None]]:
    stream = iter(views)
    while chunk := list(islice(stream, _PAGE)):
        with server_errors(connection):
            stored = connection.mget([result_key(view.job_id) for view in chunk])
        for view, result in zip(chunk, stored, strict=True):
            yield view, None if result is None else parse_result(result)


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _stamp(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _cell(text: str) -> str:
    """Make text safe within a line or a table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _code(name: str) -> str:
    """Show a name as code; backticks within it need a longer fence."""
    text = _cell(name.encode("unicode_escape").decode() if "\n" in name else name)
    return f"`` {text} ``" if "`" in text else f"`{text}`"
