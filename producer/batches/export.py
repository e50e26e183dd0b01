"""Write the transcripts of a batch into a folder that mirrors the archive.

`talks/a.mp3` becomes `talks/a.txt`. Where two recordings would claim one file, they keep their
own extension in front (`a.mp3.txt`, `a.wav.txt`); file systems that ignore case or accents are
reckoned with. Files appear whole or not at all, and foreign files are left alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import redis

from producer.batches.views import batch_files
from producer.errors import ScribefarmError, Unreadable
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS, FormatOptions
from producer.output_files import OutputStems, Written
from producer.output_places import Place, locate, write_output
from producer.paging import pages
from producer.pending import PendingJobs
from producer.queue import read_results
from producer.result import Failure, Transcript
from producer.waiting import wait_for_results

_PAGE = 1000

Status = Written | Literal["problem", "failed", "pending"]


class Exported(NamedTuple):
    """What became of one output file.

    Attributes:
        name: The recording, by its name in the batch.
        status: `kept` is a file of other content that was not overwritten; `failed` and `pending`
            recordings have no transcript to write.
        path: The output file, or its address in a bucket.
        error: What went wrong with a `problem`; why a recording `failed`.
        source: Path of a recording that failed, as its worker knew it.
        has_words: Whether the transcript of a file that is there has times of words.
    """

    name: str
    status: Status
    path: Path | str | None = None
    error: ScribefarmError | None = None
    source: str = ""
    has_words: bool = True


class Layout(NamedTuple):
    """What is written, and where.

    Attributes:
        folder: A folder, or a prefix in a bucket.
        formats: Names of `producer.formats.FORMATS`.
        overwrite: Replace existing files of other content.
    """

    folder: Place
    formats: tuple[str, ...]
    options: FormatOptions = DEFAULT_FORMAT_OPTIONS
    overwrite: bool = False


def export_batch(
    connection: redis.Redis,
    batch: str,
    layout: Layout,
    *,
    follow: bool = False,
    on_tick: Callable[[PendingJobs], None] | None = None,
) -> Iterator[Exported]:
    """Write the transcripts of a batch, with `follow` as they come until all are there.

    Running it again writes only what is missing. Memory does not grow with the batch. `on_tick` is
    called while results are waited for, as by `wait_for_results`.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    if not follow:
        with OutputStems(name for name, _ in batch_files(connection, batch)) as stems:
            yield from _export_files(connection, batch, stems, layout)
        return
    with PendingJobs() as pending:
        # A batch may have grown while we followed it.
        while pending.add(batch_files(connection, batch)):
            with OutputStems(name for name, _ in batch_files(connection, batch)) as stems:
                for result in wait_for_results(connection, pending, on_tick=on_tick):
                    for name in pending.names_of(result.job_id):
                        yield from _export(name, result, stems, layout)


def _export_files(
    connection: redis.Redis, batch: str, stems: OutputStems, layout: Layout
) -> Iterator[Exported]:
    for page in pages(batch_files(connection, batch), _PAGE):
        results = read_results(connection, (job_id for _, job_id in page))
        for (name, _), result in zip(page, results, strict=True):
            yield from _export(name, result, stems, layout)


def _export(
    name: str, result: Transcript | Failure | None, stems: OutputStems, layout: Layout
) -> Iterator[Exported]:
    if isinstance(result, Transcript):
        yield from write_transcript(name, stems.of(name), result, layout)
    elif isinstance(result, Failure):
        error = ScribefarmError.from_dict(result.error.model_dump())
        status: Status = "problem" if error.code == Unreadable.code else "failed"
        yield Exported(name, status, error=error, source=result.source)
    else:
        yield Exported(name, "pending")


def write_transcript(
    name: str, stem: str, transcript: Transcript, layout: Layout
) -> Iterator[Exported]:
    """Write one transcript in each format, and yield what became of each file."""
    for format_name in layout.formats:
        path: Path | str | None = None
        try:
            path = locate(layout.folder, stem, format_name)
            text = FORMATS[format_name](transcript, layout.options)
            status = write_output(layout.folder, path, text, overwrite=layout.overwrite)
        except ScribefarmError as error:
            yield Exported(name, "problem", path, error)
        except (ArithmeticError, ValueError) as error:
            yield Exported(name, "problem", error=Unreadable("result", f"must be sound: {error}"))
        else:
            yield Exported(name, status, path, has_words=_has_words(transcript))


def _has_words(transcript: Transcript) -> bool:
    return all(segment.words is not None for segment in transcript.segments)
