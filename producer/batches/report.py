"""The morning's report on a batch: what its last run did, how fast, and every file left out.

A run is what was worked since the batch's last submission; files that were known by then are
counted apart. Sums come from the server; of the results only failed and flagged ones are read.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.folders import FolderSums
from producer.batches.review import (
    EmptyFile,
    FailureGroup,
    FlaggedFile,
    empty_files,
    failure_groups,
    flagged_files,
)
from producer.batches.scan import survey
from producer.batches.submission import LeftOut, Submission, read_submission
from producer.batches.survey import Survey
from producer.batches.views import BatchCounts, batch_size
from producer.batches.worked_time import Bounds, WorkedTime, taken_over
from producer.models_served import batch_models

# Of each list; all are counted, and `limit=None` lists all.
MAX_LISTED = 1000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class SlowFile(_Part):
    """A file that took long, from its claim to its result."""

    name: str
    took_s: float
    audio_s: float


class Run(_Part):
    """What was worked between two moments.

    Attributes:
        since, until: The bounds; None is none. A file belongs to the run in which it ended.
        jobs: Recordings that were worked; files with the same audio are one.
        audio_s: Seconds of audio of those that succeeded.
        started_at, ended_at: First claim and last end.
        worked_s: Seconds in which at least one recording was in hand, so time without workers
            does not count; from a recording's last claim on, if it was claimed more than once.
        audio_hours_per_hour, jobs_per_hour: Over `worked_s`.
        num_flagged: Flagged segments.
    """

    since: datetime | None = None
    until: datetime | None = None
    succeeded: int = 0
    failed: int = 0
    num_flagged: int = 0
    jobs: int = 0
    audio_s: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    worked_s: float = 0.0
    audio_hours_per_hour: float | None = None
    jobs_per_hour: float | None = None


class Submitted(_Part):
    """What the batch's last submission found, as in `producer.batches.submission`."""

    began_at: datetime
    ended_at: datetime | None = Field(None, description="None: it goes on, or was killed.")
    new: int = 0
    known: int = 0
    duplicate: int = 0
    problem: int = 0
    ignored: dict[str, int] = {}
    problems: list[LeftOut] = []
    duplicates: dict[str, str] = {}


class Report(_Part):
    """All that is worth knowing about a batch in the morning.

    Attributes:
        counts: All files of the batch, of whatever run.
        known_succeeded, known_failed: Files that ended before the run.
        submission: The last one; None if its record is not there.
        taken_over: Recordings that others took over, by the worker that was lost.
        flagged, empty: Files of the run; `num_flagged_files` and `num_empty` count those that are
            not listed, too.
    """

    batch: str
    created_at: datetime
    counts: BatchCounts
    run: Run
    known_succeeded: int = 0
    known_failed: int = 0
    submission: Submitted | None = None
    files_by_worker: dict[str, int] = {}
    files_by_model: dict[str, int] = Field({}, description="Done in the run, by model.")
    files_by_language: dict[str, int] = Field({}, description="Done in the run, by language.")
    folders: list[FolderSums] = Field([], description="All files, of whatever run, by folder.")
    models: list[str] = Field([], description="Models that its files ask for.")
    taken_over: dict[str, int] = {}
    failures: list[FailureGroup] = []
    num_flagged_files: int = 0
    flagged: list[FlaggedFile] = []
    num_empty: int = 0
    empty: list[EmptyFile] = []
    slowest: list[SlowFile] = []


def make_report(
    connection: redis.Redis,
    batch: str,
    bounds: Bounds | None = None,
    *,
    limit: int | None = MAX_LISTED,
) -> Report:
    """Return the report on a batch, finished or not.

    Args:
        connection: To the server.
        batch: Name of the batch.
        bounds: Of the time that it speaks of; None is the last run, `Bounds()` all there was.
        limit: Of each list, or None.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    submission = read_submission(connection, batch)
    if submission is None:
        batch_size(connection, batch)
    if bounds is None:
        bounds = Bounds(None if submission is None else submission.run_started_at_s)
    found = survey(connection, batch, bounds, limit=limit)
    counts = found.counts
    return Report(
        batch=batch,
        created_at=datetime.now(UTC),
        counts=counts,
        run=_run(found, bounds),
        known_succeeded=counts.succeeded - found.run_states["succeeded"],
        known_failed=counts.failed - found.run_states["failed"],
        submission=None if submission is None else _submitted(submission, limit),
        files_by_worker=dict(found.workers.most_common()),
        files_by_model=dict(found.models.most_common()),
        files_by_language=dict(found.languages.most_common()),
        folders=found.folders.rows(),
        models=batch_models(connection, batch),
        taken_over=dict(taken_over(connection, batch, bounds).most_common()),
        failures=failure_groups(connection, found.failed),
        num_flagged_files=found.flagged.num_files,
        flagged=list(flagged_files(connection, found.flagged)),
        num_empty=found.empty.num_files,
        empty=list(empty_files(connection, found.empty)),
        slowest=[
            SlowFile(name=name, took_s=took_s, audio_s=audio_s)
            for took_s, name, audio_s in found.slowest
        ],
    )


def _run(found: Survey, bounds: Bounds) -> Run:
    worked: WorkedTime = found.worked
    hours = worked.worked_s / 3600
    return Run(
        since=_time(bounds.since_s),
        until=_time(bounds.until_s),
        succeeded=found.run_states["succeeded"],
        failed=found.run_states["failed"],
        num_flagged=found.run_num_flagged,
        jobs=worked.num_jobs,
        audio_s=round(worked.audio_s, 3),
        started_at=_time(min((start for start, _ in worked.intervals), default=None)),
        ended_at=_time(max((end for _, end in worked.intervals), default=None)),
        worked_s=round(worked.worked_s, 6),
        audio_hours_per_hour=worked.audio_s / 3600 / hours if hours else None,
        jobs_per_hour=worked.num_jobs / hours if hours else None,
    )


def _submitted(submission: Submission, limit: int | None) -> Submitted:
    verdicts = submission.verdicts
    return Submitted(
        began_at=datetime.fromtimestamp(submission.began_at_s, UTC),
        ended_at=_time(submission.ended_at_s),
        new=verdicts.get("new", 0),
        known=verdicts.get("known", 0),
        duplicate=verdicts.get("duplicate", 0),
        problem=verdicts.get("problem", 0),
        ignored=_by_number(submission.ignored.items()),
        problems=submission.problems[:limit],
        duplicates=dict(list(submission.duplicates.items())[:limit]),
    )


def _by_number(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    return dict(sorted(counts, key=lambda each: (-each[1], each[0])))


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
