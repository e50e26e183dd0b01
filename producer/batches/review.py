"""What a report lists by name, with what the results say: failures, empty and flagged recordings."""

from collections.abc import Iterator

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.survey import Listing
from producer.errors import advice_for
from producer.masking import mask_secrets
from producer.queue import read_results
from producer.result import ErrorRecord, Failure, Transcript


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class FailedFile(_Part):
    """One failed file and its error."""

    name: str
    job_id: str
    error: ErrorRecord | None = Field(None, description="None if the result has expired.")
    reason: str = Field(description="The error for people; the file is named elsewhere.")
    attempts: int = Field(0, description="Tries that are known, the last one included.")
    source: str = Field("", description="Its path or address, as its worker knew it.")


class FailureGroup(_Part):
    """The files that failed with one code; `files` may be only the first of `count`."""

    code: str
    count: int
    advice: str
    files: list[FailedFile]


class FlaggedSegment(_Part):
    """A stretch of text that a person should listen to, and why; times in seconds."""

    start: float
    end: float
    text: str
    flags: list[str]


class FlaggedFile(_Part):
    """A recording to look at: flagged as a whole, or in some segments."""

    name: str
    job_id: str
    flags: list[str] = []
    segments: list[FlaggedSegment] = []
    source: str = ""


class EmptyFile(_Part):
    """A recording without any text."""

    name: str
    job_id: str
    source: str = ""
    audio_s: float = 0.0


def failure_groups(connection: redis.Redis, failed: dict[str, Listing]) -> list[FailureGroup]:
    """Return the failed files by error code, the most frequent first, each with its error."""
    ordered = sorted(failed.items(), key=lambda group: (-group[1].num_files, group[0]))
    return [
        FailureGroup(
            code=code,
            count=listing.num_files,
            advice=advice_for(code),
            files=list(_failed_files(connection, listing)),
        )
        for code, listing in ordered
    ]


def _failed_files(connection: redis.Redis, listing: Listing) -> Iterator[FailedFile]:
    items = listing.first()
    results = read_results(connection, (item.job_id for item in items))
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Failure):
            yield FailedFile(
                name=item.name,
                job_id=item.job_id,
                error=result.error,
                reason=failure_reason(result, item.name),
                attempts=len(result.attempts) or 1,
                source=_shown(result.source),
            )
        else:
            reason = "the result has expired"
            yield FailedFile(name=item.name, job_id=item.job_id, reason=reason)


def failure_reason(failure: Failure, name: str) -> str:
    """Return why a file failed, without the file's own name.

    Copies are one job, which the worker knows by the path of one of them: then that is named.
    """
    error, source = failure.error, failure.source
    found = "" if error.value in {None, failure.job_id, source} else f" (got {error.value})"
    # The worker's context is the recording's path, or where in the farm it was noticed.
    is_path = "/" in error.context and source.endswith(error.context)
    text = (
        f"{error.constraint}{found}" if is_path else f"{error.context}: {error.constraint}{found}"
    )
    is_copy = source.startswith("/") and not f"/{source}".endswith(f"/{name}")
    return f"same audio as {source}: {text}" if is_copy else text


def flagged_files(connection: redis.Redis, listing: Listing) -> Iterator[FlaggedFile]:
    """Yield the first flagged recordings, with the segments to listen to."""
    items = listing.first()
    results = read_results(connection, (item.job_id for item in items))
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Failure):
            unread = FlaggedSegment(
                start=0, end=0, text=f"({result.error.message})", flags=[result.error.code]
            )
            yield FlaggedFile(name=item.name, job_id=item.job_id, segments=[unread])
        if not isinstance(result, Transcript):
            continue
        segments = [
            FlaggedSegment(
                start=segment.start, end=segment.end, text=segment.text, flags=segment.flags
            )
            for segment in result.segments
            if segment.flags
        ]
        yield FlaggedFile(
            name=item.name,
            job_id=item.job_id,
            flags=result.flags,
            segments=segments,
            source=_shown(result.source),
        )


def empty_files(connection: redis.Redis, listing: Listing) -> Iterator[EmptyFile]:
    """Yield the first recordings without text."""
    items = listing.first()
    results = read_results(connection, (item.job_id for item in items))
    for item, result in zip(items, results, strict=True):
        found = result if isinstance(result, Transcript) else None
        yield EmptyFile(
            name=item.name,
            job_id=item.job_id,
            source=_shown(found.source) if found else "",
            audio_s=found.audio.duration_s if found else 0.0,
        )


def _shown(source: str) -> str:
    return source if source.startswith("/") else mask_secrets(source)
