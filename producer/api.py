"""The Python API: submit recordings and read results in a line each.

    import producer

    batch = producer.submit(["talks/", "interview.wav"], language="en").batch
    for name, result in producer.results(batch):
        print(name, result.text if result.status == "succeeded" else result.error.message)

Settings come from the environment and settings.toml, as for the commands; pass `settings` for
others. For more than these four calls, see `producer.archive.submit`, `producer.batches.views`,
`producer.batches.watching` and `producer.queue`, which take a connection of
`producer.connection.connect`.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import redis
from pydantic import ValidationError

from producer.archive.find import Names, find
from producer.archive.hash_cache import HashCache
from producer.archive.prepare import Entry, SubmitOptions
from producer.archive.submit import submit_archive
from producer.batches.views import batch_files
from producer.batches.watching import BatchStatus, batch_status
from producer.connection import connect, server_name
from producer.job import AudioOptions, Options, invalid_options
from producer.model_names import check_model
from producer.options_of_model import fitted
from producer.pending import PendingJobs
from producer.result import Failure, Transcript
from producer.settings import Settings, load_settings
from producer.traces import checked_traceparent, traceparent_here
from producer.waiting import wait_for_results
from producer.worker_watch import WorkerWatch


class Submission(NamedTuple):
    """What became of a submission: the batch's name, and one entry a file."""

    batch: str
    entries: list[Entry]


def submit(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    batch: str | None = None,
    queue: str = "default",
    model: str | None = None,
    audio: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    retry_failed: bool = False,
    traceparent: str | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> Submission:
    """Enqueue files, folders and patterns, and say what became of each file; nothing twice.

    `options` are fields of `producer.job.Options`, `audio` those of `AudioOptions`; both on top of
    what the settings say. The jobs belong to the trace of `traceparent`, in W3C's form, or of
    $TRACEPARENT, or to a new one.

    A file that is missing or cannot be read raises nothing: its entry has the verdict `problem` and
    the error. A batch of nothing but such files is none: `results` does not know it.

    Raises:
        InvalidOptions: an option is misspelt or out of bounds, there is no such language or model,
            the model cannot do what is asked, or `traceparent` is none.
        QueueFull: queue.max_queued jobs wait already; submit the same again later.
        ServerUnreachable: no server answers.
    """
    settings = settings or load_settings()
    model = model and check_model(model)
    asked = SubmitOptions(
        batch=batch or f"batch-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}",
        options=_options(settings, options, model or settings.model.name),
        audio=_audio_options(settings, audio),
        model=model,
        queue=queue,
        metadata=metadata or {},
        retry_failed=retry_failed,
        traceparent=checked_traceparent(traceparent) if traceparent else traceparent_here(),
    )
    with (
        _connected(settings) as connection,
        Names() as names,
        HashCache(server=server_name(connection)) as cache,
    ):
        # A text is a name, not the names that its letters would be.
        listed = [paths] if isinstance(paths, str | os.PathLike) else paths
        found = find((os.fspath(path) for path in listed), names)
        return Submission(
            asked.batch, list(submit_archive(connection, settings, found, asked, cache))
        )


def results(
    batch: str,
    *,
    timeout_s: float | None = None,
    no_worker_s: float | None = None,
    settings: Settings | None = None,
) -> Iterator[tuple[str, Transcript | Failure]]:
    """Yield (name, result) of each file of a batch as it comes; end when all have or time is out.

    Waits for ever, for a worker too, unless `timeout_s` ends it quietly or `no_worker_s` with an
    error. Memory does not grow with the batch.

    Args:
        batch: Its name.
        timeout_s: Seconds to wait in all.
        no_worker_s: Seconds without any live worker to wait for one; 60 is enough for a restart.
        settings: Others than those of the environment and settings.toml.

    Raises:
        JobNotFound: the server does not know the batch.
        NoWorker: no worker was alive for `no_worker_s`.
        ServerUnreachable: no server answers.
    """
    settings = settings or load_settings()
    with _connected(settings) as connection, PendingJobs() as pending:
        pending.add(batch_files(connection, batch))
        watch = None if no_worker_s is None else WorkerWatch(connection, settings, no_worker_s)
        for result in wait_for_results(connection, pending, timeout_s, on_tick=watch):
            yield from ((name, result) for name in pending.names_of(result.job_id))


def status(batch: str, *, settings: Settings | None = None) -> BatchStatus:
    """Return where a batch stands: counts, speed, time left, workers.

    Raises:
        JobNotFound: the server does not know the batch.
        ServerUnreachable: no server answers.
    """
    settings = settings or load_settings()
    with _connected(settings) as connection:
        return batch_status(connection, settings, batch)


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[redis.Redis]:
    connection = connect(settings)
    try:
        yield connection
    finally:
        connection.close()


def _audio_options(settings: Settings, given: dict[str, Any] | None) -> AudioOptions:
    try:
        return AudioOptions.model_validate(
            {**settings.audio.for_job().model_dump(), **(given or {})}
        )
    except ValidationError as error:
        raise invalid_options("audio", error) from error


def _options(settings: Settings, given: dict[str, Any], model: str) -> Options:
    try:
        options = Options.model_validate({**settings.options.model_dump(), **given})
    except ValidationError as error:
        raise invalid_options("options", error) from error
    return fitted(options, model)
