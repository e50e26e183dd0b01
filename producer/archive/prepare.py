"""From what was found to jobs: each recording is hashed, or its server asked what it has."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from producer.archive.find import (
    Duplicate,
    Found,
    FoundAddress,
    FoundFile,
    Ignored,
    Problem,
    path_to_source,
    readable,
)
from producer.archive.hash_cache import HashCache, Hashed
from producer.archive.versions import ask_versions
from producer.errors import ScribefarmError
from producer.job import AudioOptions, Job, Options, invalid_options
from producer.paging import pages
from producer.queue import BATCH_SIZE
from producer.settings import Settings
from producer.source import SourceVersion, shown_source, upload_source
from producer.traces import TraceParent, traceparent_here
from producer.uploads import check_upload_size

Verdict = Literal["new", "known", "duplicate", "problem", "ignored"]
Reason = Literal["first_time", "audio_changed", "request_changed", "again"]


@dataclass(frozen=True)
class SubmitOptions:
    """What is asked for every recording of a submission; a manifest may ask otherwise per file.

    Attributes:
        batch: The batch that counts the jobs.
        model: Model that must give the texts; None takes the settings'.
        queue: One of `worker.queues`.
        retry_failed: Enqueue again what failed for good or was cancelled, too.
        upload: Put the files themselves into the server, for workers without a share.
        traceparent: The trace that all jobs of the submission belong to.
    """

    batch: str
    options: Options = field(default_factory=Options)
    audio: AudioOptions = field(default_factory=AudioOptions)
    model: str | None = None
    queue: str = "default"
    metadata: dict[str, Any] = field(default_factory=dict)
    retry_failed: bool = False
    upload: bool = False
    traceparent: TraceParent = field(default_factory=traceparent_here)


class Entry(NamedTuple):
    """What became of one file.

    Attributes:
        path: The file, as valid text.
        verdict: Whether it was enqueued by this submission (`new`), `known` before, is a
            `duplicate` (listed twice, or a copy: the same audio under another name), or was left
            out, with a `problem` or `ignored` for its name.
        state: RQ's word for where its job stands; "" without a job.
        reason: Why it was enqueued.
        error: Why it was left out.
        same_as: Name of the file that stands for a duplicate.
        kind: How an ignored file is counted, as in `producer.archive.find.Ignored`.
    """

    path: str
    verdict: Verdict
    name: str = ""
    job_id: str = ""
    state: str = ""
    reason: Reason | None = None
    error: ScribefarmError | None = None
    same_as: str = ""
    kind: str = ""


class Ready(NamedTuple):
    """A recording that is known by its content or version, and its job."""

    file: FoundFile | FoundAddress
    job: Job
    hashed: Hashed


def to_job(
    file: FoundFile | FoundAddress, asked: SubmitOptions, identified: Mapping[str, Any]
) -> Job:
    """Return the job of a recording: what the submission asks for, then what its manifest says.

    Args:
        file: What was found.
        asked: What is asked for all.
        identified: The fields of the job that stand for its audio.

    Raises:
        InvalidOptions: all together make no valid job.
    """
    options = asked.options
    try:
        if own := file.asked.get("options"):
            options = Options.model_validate({**options.model_dump(), **own})
        audio = asked.audio
        if own := file.asked.get("audio"):
            audio = AudioOptions.model_validate({**audio.model_dump(), **own})
        return Job(
            source=_source(file, asked, identified),
            model=file.asked.get("model") or asked.model,
            options=options,
            audio=audio,
            batch=asked.batch,
            name=file.name,
            metadata={**asked.metadata, **file.asked.get("metadata", {})},
            **identified,
        )
    except ValidationError as error:
        raise invalid_options(file.name, error) from error


def _source(
    file: FoundFile | FoundAddress, asked: SubmitOptions, identified: Mapping[str, Any]
) -> str:
    if isinstance(file, FoundAddress):
        return file.address
    if asked.upload:
        return upload_source(identified["audio_sha256"], file.name)
    return path_to_source(file.path)


def prepared_pages(
    settings: Settings, found: Iterable[Found], asked: SubmitOptions, cache: HashCache
) -> Iterator[tuple[list[Entry], list[Ready]]]:
    """Group what was found: entries that need no server, and jobs for one call."""
    # A page larger than the cap could never be enqueued.
    size = min(BATCH_SIZE, settings.queue.max_queued)
    for page in pages(found, size):
        versions = ask_versions(page, settings.audio)
        prepared = [_prepare(item, asked, cache, settings, versions) for item in page]
        settled = [item for item in prepared if isinstance(item, Entry)]
        yield settled, [item for item in prepared if isinstance(item, Ready)]


def _prepare(
    item: Found,
    asked: SubmitOptions,
    cache: HashCache,
    settings: Settings,
    versions: Mapping[str, SourceVersion | ScribefarmError],
) -> Entry | Ready:
    if isinstance(item, Problem):
        return Entry(item.path, "problem", error=item.error)
    if isinstance(item, Duplicate):
        return Entry(item.path, "duplicate", same_as=item.of)
    if isinstance(item, Ignored):
        return Entry(item.path, "ignored", kind=item.kind)
    try:
        if isinstance(item, FoundAddress):
            version = versions[item.address]
            if isinstance(version, ScribefarmError):
                raise version
            return Ready(item, to_job(item, asked, {"version": version}), Hashed(""))
        if asked.upload:
            check_upload_size(item.path, settings.audio)
        hashed = cache.look_up(item.path)
        job = to_job(item, asked, {"audio_sha256": hashed.sha256})
    except ScribefarmError as error:
        return Entry(shown(item), "problem", name=item.name, error=error)
    return Ready(item, job, hashed)


def remember(cache: HashCache, item: Ready, job_id: str) -> None:
    """Keep the hash of a file, and the job that it now stands for."""
    if isinstance(item.file, FoundFile):
        cache.remember(item.file.path, item.hashed, job_id)


def shown(file: FoundFile | FoundAddress) -> str:
    """Return where a recording is, as valid text without secrets."""
    if isinstance(file, FoundAddress):
        return shown_source(file.address)
    return readable(str(file.path))
