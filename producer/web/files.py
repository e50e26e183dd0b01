"""A batch's files as its page lists them: found in the index, and looked up anew where they stand."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from producer.batches.folders import FolderSums, FolderTally
from producer.batches.views import FileView, view_files
from producer.web.filters import Filter
from producer.web.index import IndexedFile
from producer.web.web import Web

_MAX_CHARS = 1000
# A large batch's folders are summed up again after this many times what that takes.
_REST = 20
# By what the page calls it, what the index calls it.
STATES = {"open": "still to do", "succeeded": "succeeded", "failed": "failed", "lost": "expired"}

_folders: dict[tuple[int, str], tuple[float, list[FolderSums]]] = {}


class FileRow(NamedTuple):
    """A file as the server has it now, with what the index knows of its text."""

    view: FileView
    flags: tuple[str, ...]
    language: str


def filter_of(asked: Mapping[str, str]) -> Filter:
    """Return the filter that an address asks for; what makes no sense is no filter."""
    texts = {name: asked.get(name, "")[:_MAX_CHARS] for name in ("code", "flag", "folder")}
    state = asked.get("state", "")
    return Filter(
        state=state if state in STATES else "",
        name=asked.get("find", "")[:_MAX_CHARS].strip(),
        **texts,
    )


def file_rows(web: Web, batch: str, wanted: Filter, limit: int, offset: int) -> list[FileRow]:
    """Return a page of a batch's files by name.

    Raises:
        ServerUnreachable: no server answers.
    """
    known = web.index.files(batch, wanted, limit, offset)
    views = view_files(web.connection, ((file.name, file.job_id) for file in known))
    return [_row(file, view) for file, view in zip(known, views, strict=True)]


def _row(file: IndexedFile, view: FileView) -> FileRow:
    is_done = view.state == "succeeded"
    return FileRow(view, file.flags if is_done else (), file.language if is_done else "")


def folder_rows(web: Web, batch: str) -> list[FolderSums]:
    """Return a batch by folder, as the index has it; of a large one as of a moment ago."""
    key, now = (id(web.index), batch), time.monotonic()
    fresh_until, rows = _folders.get(key, (0.0, []))
    if now < fresh_until:
        return rows
    tally = FolderTally()
    for folder, state, num, audio_s in web.index.folders(batch):
        is_done = state == "succeeded"
        sums = (num, num * is_done, num * (state == "failed"), audio_s if is_done else 0.0)
        tally.add_sums(folder, sums)
    rows = tally.rows()
    took_s = time.monotonic() - now
    if len(_folders) > 100:  # noqa: PLR2004 batches that somebody looked at
        _folders.clear()
    _folders[key] = (time.monotonic() + _REST * took_s, rows)
    return rows
