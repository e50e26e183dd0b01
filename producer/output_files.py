"""Files of transcripts: their names in an output folder, and writing them whole."""

import contextlib
import hashlib
import os
import posixpath
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from producer.errors import InvalidOptions, OutputFailed
from producer.formats import file_extension
from producer.paging import pages

# Bytes of a file name on all common file systems.
_MAX_NAME_BYTES = 255

_PAGE = 1000
_CLAIM = "INSERT INTO claims VALUES (?, 1) ON CONFLICT (path) DO UPDATE SET num = num + 1"

# `kept` is a file of other content that was not overwritten.
Written = Literal["written", "unchanged", "kept"]


class OutputStems:
    """Gives each recording's name the path of its outputs without their extension.

    No two recordings share one, whatever the case or accents of their names. What the names claim
    is kept on disk, not in memory.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names of all recordings, each once."""
        # SQLite's temporary database: a file without a name, gone when it is closed.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("CREATE TABLE claims (path TEXT PRIMARY KEY, num INT) WITHOUT ROWID")
        for page in pages(names, _PAGE):
            claimed = [(path,) for name in page for path in {_folded(name), _folded(_stem(name))}]
            self._database.executemany(_CLAIM, claimed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def of(self, name: str) -> str:
        """Return the stem of one of the names."""
        stem = _stem(name)
        if self._num_claims(stem) <= 1:
            return stem
        return name if self._num_claims(name) == 1 else f"{name}.{_short_hash(name)}"

    def _num_claims(self, path: str) -> int:
        asked = "SELECT num FROM claims WHERE path = ?"
        found = self._database.execute(asked, (_folded(path),)).fetchone()
        return found[0] if found else 0


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


def write_whole(path: Path, text: str, *, overwrite: bool) -> Written:
    """Write a file that appears whole or not at all; make its folders.

    A file of the same content is left alone, one of other content replaced only with `overwrite`.

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


@contextlib.contextmanager
def output_errors(context: str, path: Path) -> Iterator[None]:
    """Translate the system's errors of writing `path` into `OutputFailed`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputFailed(context, f"must be writable: {reason}", path) from error


def _stem(name: str) -> str:
    return posixpath.splitext(name)[0]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
