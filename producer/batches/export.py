"""Write the transcripts of a batch into a folder that mirrors the archive.

`talks/a.mp3` becomes `talks/a.txt`. Where two recordings would claim one file, they keep their
own extension in front (`a.mp3.txt`, `a.wav.txt`); file systems that ignore case or accents are
reckoned with. Files appear whole or not at all, and foreign files are left alone.
"""

import contextlib
import hashlib
import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import redis

from producer.batches.views import batch_files
from producer.connection import server_errors
from producer.errors import InvalidOptions, ScribefarmError, SourceUnreachable
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS, FormatOptions, file_extension
from producer.queue import result_key, wait_for_results
from producer.result import Failure, Transcript, parse_result

# Bytes of a file name on all common file systems.
_MAX_NAME_BYTES = 255

# Transcripts of very long recordings have a megabyte or two each.
_PAGE = 50

Status = Literal["written", "unchanged", "kept", "problem", "failed", "pending"]


class Exported(NamedTuple):
    """What became of one output file.

    Attributes:
        name: The recording, by its name in the batch.
        status: `kept` is a file of other content that was not overwritten; `failed` and `pending`
            recordings have no transcript to write.
        path: The output file.
        error: What went wrong with a `problem`.
    """

    name: str
    status: Status
    path: Path | None = None
    error: ScribefarmError | None = None


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


def output_stems(names: Iterable[str]) -> dict[str, str]:
    """Return for each recording's name the path of its outputs without their extension.

    No two recordings share one, whatever the case or accents of their names.
    """
    stems = {name: posixpath.splitext(name)[0] for name in names}
    claims: Counter[str] = Counter()
    for name, stem in stems.items():
        claims.update({_folded(name), _folded(stem)})
    for name, stem in stems.items():
        if claims[_folded(stem)] > 1:
            is_alone = claims[_folded(name)] == 1
            stems[name] = name if is_alone else f"{name}.{_short_hash(name)}"
    return stems


def output_path(folder: Path, stem: str, format_name: str) -> Path:
    """Return the file of one output; names too long for a file system are cut and hashed.

    Raises:
        InvalidOptions: the name leads out of the folder.
    """
    parts = PurePosixPath(stem).parts
    if stem.startswith("/") or ".." in parts or "\0" in stem or not parts:
        raise InvalidOptions("results", "a name must stay within the output folder", stem)
    *folders, last = parts
    suffix = f".{file_extension(format_name)}"
    if len((last + suffix).encode()) > _MAX_NAME_BYTES:
        suffix = f"~{_short_hash(stem)}{suffix}"
        room = _MAX_NAME_BYTES - len(suffix)
        last = last.encode()[:room].decode(errors="ignore")
    return folder.joinpath(*folders, last + suffix)


def write_whole(path: Path, text: str, *, overwrite: bool) -> Status:
    """Write a file so that nobody sees half of it; make its folders.

    Raises:
        OSError: the disk is full, the folder not writable.
    """
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return "unchanged"
        if not overwrite:
            return "kept"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, since the real name may have no byte to spare.
    draft = path.with_name(f".scribefarm-{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return "written"


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
    if follow:
        results: Iterable[Transcript | Failure | str] = wait_for_results(connection, names_of)
    else:
        results = _stored(connection, names_of)
    for result in results:
        for name in names_of[result if isinstance(result, str) else result.job_id]:
            if isinstance(result, Transcript):
                yield from _write(name, stems[name], result, layout)
            else:
                yield Exported(name, "failed" if isinstance(result, Failure) else "pending")


def _stored(
    connection: redis.Redis, job_ids: Iterable[str]
) -> Iterator[Transcript | Failure | str]:
    """Yield results, or the id of a job that has none."""
    stream = iter(job_ids)
    while chunk := list(islice(stream, _PAGE)):
        with server_errors(connection):
            stored = connection.mget([result_key(job_id) for job_id in chunk])
        for job_id, result in zip(chunk, stored, strict=True):
            yield job_id if result is None else parse_result(result)


def _write(name: str, stem: str, transcript: Transcript, layout: Layout) -> Iterator[Exported]:
    for format_name in layout.formats:
        try:
            path = output_path(layout.folder, stem, format_name)
            text = FORMATS[format_name](transcript, layout.options)
            status = write_whole(path, text, overwrite=layout.overwrite)
        except ScribefarmError as error:
            yield Exported(name, "problem", error=error)
        except OSError as error:
            reason = error.strerror or str(error)
            problem = SourceUnreachable("results", f"must be writable: {reason}", path)
            yield Exported(name, "problem", path, problem)
        else:
            yield Exported(name, status, path)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
