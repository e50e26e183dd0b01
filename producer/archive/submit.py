"""Submit an archive: files become jobs, and only what is new is enqueued.

Recordings come in as a stream, are hashed, submitted in pages and yielded as entries that say what
became of each; memory does not grow with the archive.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import redis

from producer.archive.copies import Copies
from producer.archive.find import (
    Found,
    FoundAddress,
    FoundFile,
)
from producer.archive.hash_cache import HashCache, Hashed
from producer.archive.prepare import (
    Entry,
    Ready,
    Reason,
    SubmitOptions,
    prepared_pages,
    remember,
    shown,
)
from producer.archive.submission_log import SubmissionLog
from producer.batches.views import note_batch
from producer.errors import JobNotFound, QueueFull, ScribefarmError, ServerUnreachable
from producer.job import Job
from producer.queue import (
    Submitted,
    foreign_audio,
    job_id_of,
    job_state,
    read_result,
    read_results,
    submit,
)
from producer.result import Failure, Transcript
from producer.settings import Settings
from producer.source import is_fetched
from producer.states import ENDED_BADLY, state_of
from producer.traces import TraceParent
from producer.uploads import upload

# Codes of failures that are the path's fault, not the recording's.
_PATH_CODES = frozenset({"source_not_found", "source_forbidden"})
# Permanent for the job as it was submitted; a new submission is another job.
_ANEW_CODES = frozenset({"source_changed"})

# Where a worker may still ask for the audio.
_UNDONE = frozenset({"queued", "running", "waiting"})

# How long submit waits before it asks a full queue again.
FULL_QUEUE_PAUSE_S = 2.0


def submit_archive(
    connection: redis.Redis,
    settings: Settings,
    found: Iterable[Found],
    asked: SubmitOptions,
    cache: HashCache,
    *,
    on_full: Callable[[QueueFull], None] | None = None,
) -> Iterator[Entry]:
    """Enqueue the recordings that the farm does not know; yield what became of each file.

    A job that failed for a passing reason (its error is retryable) is enqueued again; one that
    failed for good stays, unless `asked.retry_failed`. When the queue is full, `on_full` is
    called and the submission waits; without it the error is raised. What is left out stands in
    the submission's record (`producer.batches.submission`), as far as it came.

    Raises:
        QueueFull: queue.max_queued jobs wait, and `on_full` is None.
        ServerUnreachable: the server went away; what was yielded is enqueued.
    """
    log = SubmissionLog(connection, settings, asked.batch)
    with Copies() as copies, log.until_the_end():
        for settled, prepared in prepared_pages(settings, found, asked, cache):
            uploaded = list(_uploaded(connection, settings, prepared, asked))
            ready = [item for item in uploaded if isinstance(item, Ready)]
            for entry in (*settled, *(item for item in uploaded if isinstance(item, Entry))):
                _note(log, entry)
                yield entry
            results = _submit(connection, settings, ready, asked, on_full)
            if results:
                note_batch(connection, settings, asked.batch)
            for item, submitted in zip(ready, results, strict=True):
                remember(cache, item, submitted.job_id)
                entry = _entry(item, submitted, copies)
                _note(log, entry)
                yield entry
            log.page_done()


def plan_archive(
    connection: redis.Redis,
    settings: Settings,
    found: Iterable[Found],
    asked: SubmitOptions,
    cache: HashCache,
) -> Iterator[tuple[Entry, FoundFile | FoundAddress | None]]:
    """Yield what `submit_archive` would do, and change nothing on the server."""
    with Copies() as copies:
        for settled, ready in prepared_pages(settings, found, asked, cache):
            yield from ((entry, None) for entry in settled)
            for item in ready:
                remember(cache, item, item.hashed.old_job_id or "")
                foreseen = _foresee(connection, job_id_of(item.job, settings), item.job, asked)
                yield _entry(item, foreseen, copies), item.file


def _submit(
    connection: redis.Redis,
    settings: Settings,
    ready: list[Ready],
    asked: SubmitOptions,
    on_full: Callable[[QueueFull], None] | None,
) -> list[Submitted]:
    while True:
        try:
            return submit_jobs(
                connection,
                settings,
                [item.job for item in ready],
                queue=asked.queue,
                retry_failed=asked.retry_failed,
                traceparent=asked.traceparent,
            )
        except QueueFull as error:
            if on_full is None:
                raise
            on_full(error)
            time.sleep(FULL_QUEUE_PAUSE_S)


def submit_jobs(
    connection: redis.Redis,
    settings: Settings,
    jobs: list[Job],
    *,
    queue: str = "default",
    retry_failed: bool = False,
    traceparent: TraceParent | None = None,
) -> list[Submitted]:
    """Enqueue jobs that are new, and those that failed for a passing reason; say where each stands.

    Raises:
        ScribefarmError: as `producer.queue.submit` raises.
    """
    enqueue = partial(submit, connection, settings, queue=queue, traceparent=traceparent)
    results = enqueue(jobs, resubmit_failed=retry_failed)
    if retry_failed:
        return results
    failed = [index for index, result in enumerate(results) if result.state == "failed"]
    stored = read_results(connection, (results[index].job_id for index in failed))
    again = [
        index
        for index, result in zip(failed, stored, strict=True)
        if _may_succeed(result, jobs[index].source)
    ]
    retried = enqueue([jobs[index] for index in again], resubmit_failed=True)
    enqueued = {result.job_id: result for result in retried}
    for index, result in zip(again, retried, strict=True):
        results[index] = result
    # A copy whose own path has failed waits for the text of the other one.
    return [
        result._replace(state=enqueued[result.job_id].state)
        if result.job_id in enqueued
        else result
        for result in results
    ]


def _uploaded(
    connection: redis.Redis, settings: Settings, ready: list[Ready], asked: SubmitOptions
) -> Iterator[Ready | Entry]:
    """Put the files of jobs that are to be done into the server, before a worker asks for them."""
    for item in ready:
        if not asked.upload or isinstance(item.file, FoundAddress):
            yield item
            continue
        foreseen = _foresee(connection, job_id_of(item.job, settings), item.job, asked)
        try:
            if foreseen.is_new or state_of(foreseen.state) in _UNDONE:
                upload(connection, item.file.path, item.hashed.sha256, settings.audio)
        except ServerUnreachable:
            raise
        except ScribefarmError as error:
            yield Entry(shown(item.file), "problem", name=item.file.name, error=error)
        else:
            yield item


def _foresee(connection: redis.Redis, job_id: str, job: Job, asked: SubmitOptions) -> Submitted:
    """Return what submitting a job would answer now."""
    try:
        state = job_state(connection, job_id)
    except JobNotFound:
        return Submitted(job_id, "queued", is_new=True)
    if state == "finished":
        read = foreign_audio(connection, job_id)
        is_new = read not in {None, job.audio_sha256} or read_result(connection, job_id) is None
    elif asked.retry_failed:
        is_new = state in ENDED_BADLY
    else:
        is_new = state == "failed" and _may_succeed(read_result(connection, job_id), job.source)
    return Submitted(job_id, state, is_new)


def _may_succeed(result: Transcript | Failure | None, source: str) -> bool:
    """Return whether a job that failed so may do better if it is submitted from `source` now.

    One without a result may. What failed for its path may from another path; a file that was
    changed after it was submitted has been hashed anew.
    """
    if not isinstance(result, Failure) or result.error.retryable:
        return True
    # The server of an address has just been asked: it gives what it refused then.
    if result.error.code in _PATH_CODES and (is_fetched(source) or result.source != source):
        return True
    return result.error.code in _ANEW_CODES


def _entry(item: Ready, submitted: Submitted, copies: Copies) -> Entry:
    path, name = shown(item.file), item.file.name
    job_id, state = submitted.job_id, submitted.state
    first = copies.first_name(job_id, name)
    # Not always its first name: a copy brings the path that works.
    if submitted.is_new and copies.is_enqueued_first(job_id):
        return Entry(path, "new", name, job_id, state, reason=_reason(item.hashed, job_id))
    if first != name:
        return Entry(path, "duplicate", name, job_id, state, same_as=first)
    return Entry(path, "known", name, job_id, state)


def _note(log: SubmissionLog, entry: Entry) -> None:
    if entry.error:
        log.problem(entry.path, entry.error)
    elif entry.verdict == "duplicate":
        log.duplicate(entry.path, entry.same_as)
    elif entry.verdict == "ignored":
        log.ignored(entry.kind)
    else:
        log.count(entry.verdict)


def _reason(hashed: Hashed, job_id: str) -> Reason:
    if not hashed.old_job_id:
        return "first_time"
    if hashed.old_sha256 != hashed.sha256:
        return "audio_changed"
    return "again" if hashed.old_job_id == job_id else "request_changed"
