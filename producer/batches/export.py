"""Write the transcripts of a batch into a folder that mirrors the archive.

`talks/a.mp3` becomes `talks/a.txt`. Where two recordings would claim one file, they keep their
own extension in front (`a.mp3.txt`, `a.wav.txt`); file systems that ignore case or accents are
reckoned with. Files appear whole or not at all, and foreign files are left alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import redis

from producer.batches.views import batch_files
from producer.errors import ScribefarmError
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS, FormatOptions
from producer.output_files import Written, output_errors, output_path, output_stems, write_whole
from producer.queue import read_results
from producer.result import Failure, Transcript
from producer.waiting import wait_for_results

Status = Written | Literal["problem", "failed", "pending"]


class Exported(NamedTuple):
    """What became of one output file.

    Attributes:
        name: The recording, by its name in the batch.
        status: `kept` is a file of other content that was not overwritten; `failed` and `pending`
            recordings have no transcript to write.
        path: The output file.
        error: What went wrong with a `problem`; why a recording `failed`.
        source: Path of a recording that failed, as its worker knew it.
    """

    name: str
    status: Status
    path: Path | None = None
    error: ScribefarmError | None = None
    source: str = ""


class Layout(NamedTuple):
    """What is written, and where.

    Attributes:
        formats: Names of `producer.formats.FORMATS`.
        overwrite: Replace existing files of other content.
    """

    folder: Path
    formats: tuple[str, ...]
    options: FormatOptions = DEFAULT_FORMAT_OPTIONS
    overwrite: bool = False


def export_batch(
    connection: redis.Redis, batch: str, layout: Layout, *, follow: bool = False
) -> Iterator[Exported]:
    """Write the transcripts of a batch, with `follow` as they come until all are there.

    Running it again writes only what is missing.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    files = dict(batch_files(connection, batch))
    new = files
    while new:
        yield from _export(connection, new, output_stems(files), layout, follow=follow)
        # A batch may have grown while we followed it.
        files, before = dict(batch_files(connection, batch)) if follow else files, files
        new = {name: job_id for name, job_id in files.items() if before.get(name) != job_id}


def _export(
    connection: redis.Redis,
    files: Mapping[str, str],
    stems: Mapping[str, str],
    layout: Layout,
    *,
    follow: bool,
) -> Iterator[Exported]:
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, job_id in files.items():
        names_of[job_id].append(name)
    found: Iterable[tuple[str, Transcript | Failure | None]]
    if follow:
        found = ((result.job_id, result) for result in wait_for_results(connection, names_of))
    else:
        found = zip(names_of, read_results(connection, names_of), strict=True)
    for job_id, result in found:
        for name in names_of[job_id]:
            if isinstance(result, Transcript):
                yield from _write(name, stems[name], result, layout)
            elif isinstance(result, Failure):
                error = ScribefarmError.from_dict(result.error.model_dump())
                yield Exported(name, "failed", error=error, source=result.source)
            else:
                yield Exported(name, "pending")


def _write(name: str, stem: str, transcript: Transcript, layout: Layout) -> Iterator[Exported]:
    for format_name in layout.formats:
        path: Path | None = None
        try:
            path = output_path(layout.folder, stem, format_name)
            text = FORMATS[format_name](transcript, layout.options)
            with output_errors("results", path):
                status = write_whole(path, text, within=layout.folder, overwrite=layout.overwrite)
        except ScribefarmError as error:
            yield Exported(name, "problem", path, error)
        else:
            yield Exported(name, status, path)
