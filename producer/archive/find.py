"""Find recordings: files, folders, patterns and lists become a stream of paths with names.

Nothing is collected, so memory does not grow with the archive. What cannot be used is yielded as
a `Problem` in its place, and the rest goes on.
"""

import fnmatch
import glob
import os
import sqlite3
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple, Self

from producer.errors import (
    InvalidOptions,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)

# What a folder is searched for unless patterns say otherwise: containers that libsndfile or
# FFmpeg read. A file named on its own is taken whatever it is called.
AUDIO_EXTENSIONS = frozenset(
    "3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dss flac flv gsm m2ts m4a m4b m4v"  # noqa: SIM905 a list would take fifty lines
    " mka mkv mov mp1 mp2 mp3 mp4 mpeg mpg mpga mts oga ogg ogv opus ra rf64 snd spx tta voc vob"
    " w64 wav wave webm wma wmv wv".split()
)

_LIST_BLOCK_BYTES = 1 << 16
# A longer line is no path on any system we know, and must not fill the memory.
_MAX_LINE_BYTES = 1 << 20


class FoundFile(NamedTuple):
    """A file to transcribe.

    Attributes:
        path: Absolute path; bytes that are not UTF-8 are Python's surrogate escapes.
        name: Valid text, unique in one submission: where results of this file are written.
        asked: What a manifest says about this file, as fields of `Job`.
    """

    path: Path
    name: str
    asked: Mapping[str, Any] = {}


class Problem(NamedTuple):
    """Something in the archive that cannot be submitted, and why."""

    path: str
    error: ScribefarmError


class Duplicate(NamedTuple):
    """A file that was found before in the same submission."""

    path: str


Found = FoundFile | Problem | Duplicate


class Patterns(NamedTuple):
    """Which files of a folder are taken: shell patterns, upper and lower case alike.

    A pattern with a slash is held against the path within the folder, one without against the
    file's own name and the name of each folder above it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def accept(self, relative: PurePath) -> bool:
        """Return whether the file at this path within the folder is taken."""
        if any(_matches(relative, pattern) for pattern in self.exclude):
            return False
        if self.include:
            return any(_matches(relative, pattern) for pattern in self.include)
        return relative.suffix[1:].lower() in AUDIO_EXTENSIONS


class Names:
    """Gives each path of a submission a name of its own; kept on disk, not in memory."""

    def __init__(self) -> None:
        # SQLite's temporary database: a file without a name, gone when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("CREATE TABLE named (path BLOB PRIMARY KEY, name TEXT UNIQUE)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def claim(self, path: Path, name: str) -> str | None:
        """Return the name of a path, which is `name` unless another has it; None if seen before."""
        encoded = os.fsencode(path)
        if self._insert(encoded, name):
            return name
        if self._database.execute("SELECT 1 FROM named WHERE path = ?", (encoded,)).fetchone():
            return None
        # Two folders of the same name were given: the whole path tells them apart.
        whole = readable(str(path)).lstrip("/")
        candidates = (f"{whole}{'-' * (tries > 0)}{tries or ''}" for tries in range(1000))
        return next(other for other in candidates if self._insert(encoded, other))

    def _insert(self, path: bytes, name: str) -> bool:
        cursor = self._database.execute("INSERT OR IGNORE INTO named VALUES (?, ?)", (path, name))
        return cursor.rowcount == 1


def find(
    arguments: Iterable[str], names: Names, patterns: Patterns | None = None
) -> Iterator[Found]:
    """Yield the recordings at paths: a file is itself, a folder all below it, a pattern its files.

    Names mirror the archive: files in a folder are named from that folder on, single files from
    the current folder on. Hidden files are skipped in folders, links to folders not followed.
    """
    for argument in arguments:
        path = Path(os.path.abspath(argument))  # noqa: PTH100 resolve() would follow links
        if path.is_dir():
            found = _in_folder(path, path, patterns or Patterns())
            yield from (_named(item, PurePath(path.parent), names) for item in found)
        elif glob.has_magic(argument) and not os.path.lexists(path):
            yield from _in_pattern(argument, names, patterns)
        else:
            yield _named(checked(path), PurePath(Path.cwd()), names)


def read_list(stream: IO[bytes], separator: bytes = b"\n") -> Iterator[str]:
    r"""Yield the paths of a list, one a line or, with `b"\\0"`, NUL-separated; empty ones not.

    Raises:
        InvalidOptions: a line too long to be a path.
    """
    rest = b""
    while block := stream.read1(_LIST_BLOCK_BYTES):  # type: ignore[attr-defined]  # buffered
        *lines, rest = (rest + block).split(separator)
        yield from (os.fsdecode(line) for line in lines if line)
        if len(rest) > _MAX_LINE_BYTES:
            raise InvalidOptions("list", f"a path has at most {_MAX_LINE_BYTES} bytes", len(rest))
    if rest:
        yield os.fsdecode(rest)


def checked(path: Path) -> Path | Problem:
    """Return a path that is a file we may read, or what is wrong with it."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        return _problem(path, error)
    if not stat.S_ISREG(status.st_mode):
        text = readable(str(path))
        return Problem(text, UnsupportedFormat("submit", "must be a regular file", text))
    if not os.access(path, os.R_OK):
        return _problem(path, PermissionError())
    return path


def path_to_source(path: Path) -> str:
    """Return a path as a job carries it: itself, or a file URL if its bytes are not UTF-8."""
    text = str(path)
    return text if is_text(text) else path.as_uri()


def is_text(path: str) -> bool:
    """Return whether a path is valid text, without the surrogate escapes of foreign bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(path: str) -> str:
    r"""Return a path as valid text: bytes that are not UTF-8 are written like `\xff`."""
    return path if is_text(path) else os.fsencode(path).decode("utf-8", "backslashreplace")


def _in_pattern(pattern: str, names: Names, patterns: Patterns | None) -> Iterator[Found]:
    matches = glob.iglob(pattern, recursive=True)  # noqa: PTH207 a Path cannot hold `**/x` lazily
    has_matches = False
    for match in matches:
        has_matches = True
        path = Path(os.path.abspath(match))  # noqa: PTH100 resolve() would follow links
        # A pattern such as talks/** names folders too; their files match too.
        if path.is_dir() or (patterns and not patterns.accept(PurePath(match))):
            continue
        yield _named(checked(path), PurePath(Path.cwd()), names)
    if not has_matches:
        error = SourceNotFound("submit", "the pattern must match a file", readable(pattern))
        yield Problem(readable(pattern), error)


def _in_folder(root: Path, folder: Path, patterns: Patterns) -> Iterator[Path | Problem]:
    try:
        entries = os.scandir(folder)
    except OSError as error:
        yield _problem(folder, error)
        return
    with entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _in_folder(root, path, patterns)
            elif patterns.accept(path.relative_to(root)) and not entry.is_dir():
                yield checked(path)


def _named(item: Path | Problem, above: PurePath, names: Names) -> Found:
    if isinstance(item, Problem):
        return item
    inside = item.relative_to(above) if item.is_relative_to(above) else item.relative_to("/")
    name = names.claim(item, readable(str(inside)))
    return Duplicate(readable(str(item))) if name is None else FoundFile(item, name)


def _problem(path: Path, error: Exception) -> Problem:
    text = readable(str(path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Problem(text, SourceNotFound("submit", "must be an existing file", text))
    if isinstance(error, PermissionError):
        return Problem(text, SourceForbidden("submit", "must be readable", text))
    if isinstance(error, ValueError):
        return Problem(text, SourceNotFound("submit", "a path holds no NUL", text))
    return Problem(text, SourceUnreachable("submit", f"must be readable: {error}", text))


def _matches(relative: PurePath, pattern: str) -> bool:
    pattern = _folded(pattern)
    if "/" in pattern:
        return fnmatch.fnmatchcase(_folded(str(relative)), pattern.lstrip("/"))
    return any(fnmatch.fnmatchcase(_folded(part), pattern) for part in relative.parts)


def _folded(name: str) -> str:
    """Return a name in one case and in composed form: HFS+, zip and rsync leave names in NFD."""
    return unicodedata.normalize("NFC", name).lower()
