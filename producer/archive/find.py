"""Find recordings: files, folders, patterns and lists become a stream of paths with names.

Nothing is collected, so memory does not grow with the archive. What cannot be used is yielded as
a `Problem` in its place, and the rest goes on.
"""

import errno
import glob
import os
import posixpath
import sqlite3
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple, Self

from producer.archive.patterns import Patterns
from producer.errors import (
    InvalidOptions,
    PrivacyDenied,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from producer.source import (
    SourceVersion,
    is_foreign,
    is_prefix,
    is_remote,
    name_of_address,
    shown_source,
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


class FoundAddress(NamedTuple):
    """A recording on a server: http(s):// or s3://.

    Attributes:
        address: As it was given, secrets included.
        name: As of a `FoundFile`.
        asked: As of a `FoundFile`.
        version: What its server has said of it, if it was asked already.
    """

    address: str
    name: str
    asked: Mapping[str, Any] = {}
    version: SourceVersion | None = None


class Problem(NamedTuple):
    """Something in the archive that cannot be submitted, and why."""

    path: str
    error: ScribefarmError


class Duplicate(NamedTuple):
    """A file that was found before in the same submission, and the name that it has there."""

    path: str
    of: str


class Ignored(NamedTuple):
    """A file of a folder that is passed over for its name alone.

    Attributes:
        kind: How it is counted: its extension in lower case, `no extension`, `hidden`,
            `hidden folder` (all within is one), `AppleDouble` (a Mac's companion of another file),
            `excluded` (by a pattern) or `link to a folder`.
    """

    path: str
    kind: str


Found = FoundFile | FoundAddress | Problem | Duplicate | Ignored


class _Claimed(NamedTuple):
    name: str
    is_new: bool


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

    def claim(
        self, path: Path, name: str, asked: Mapping[str, Any] | None = None
    ) -> FoundFile | Duplicate:
        """Return the file under its name, which is `name` unless another file has it."""
        given = self._claim(os.fsencode(path), name, readable(str(path)).lstrip("/"))
        if given.is_new:
            return FoundFile(path, given.name, asked or {})
        return Duplicate(readable(str(path)), given.name)

    def claim_address(
        self,
        address: str,
        name: str,
        asked: Mapping[str, Any] | None = None,
        version: SourceVersion | None = None,
    ) -> FoundAddress | Duplicate:
        """Return the recording at an address under its name, as `claim` does for a file."""
        shown = readable(shown_source(address))
        whole = shown.partition("://")[2].partition("?")[0].rpartition("@")[2]
        given = self._claim(os.fsencode(address), name, whole)
        if given.is_new:
            return FoundAddress(address, given.name, asked or {}, version)
        return Duplicate(shown, given.name)

    def _claim(self, key: bytes, name: str, whole: str) -> "_Claimed":
        """Give a name, or the one given before; `whole` tells apart what has the same name."""
        if self._insert(key, name):
            return _Claimed(name, is_new=True)
        known = self._database.execute("SELECT name FROM named WHERE path = ?", (key,))
        if row := known.fetchone():
            return _Claimed(row[0], is_new=False)
        # Two folders of the same name were given: the whole path tells them apart.
        stem, suffix = posixpath.splitext(whole)
        tries = (whole, *(f"{stem}-{number}{suffix}" for number in range(1, 1000)))
        return _Claimed(next(other for other in tries if self._insert(key, other)), is_new=True)

    def _insert(self, path: bytes, name: str) -> bool:
        cursor = self._database.execute("INSERT OR IGNORE INTO named VALUES (?, ?)", (path, name))
        return cursor.rowcount == 1


def find(
    arguments: Iterable[str], names: Names, patterns: Patterns | None = None
) -> Iterator[Found]:
    """Yield the recordings at paths: a file is itself, a folder all below it, a pattern its files.

    So is an http(s):// or s3:// address, whose path is its name; nothing is asked of its server. An
    s3:// address that ends in a slash is a folder.

    Names mirror the archive: files in a folder are named from that folder on, single files from
    the current folder on. In folders, files of other kinds and hidden ones are yielded as
    `Ignored`, and so are links to folders, which are not followed.
    """
    for argument in arguments:
        if is_prefix(argument):
            # Most submit no buckets; this one needs what is here.
            from producer.archive.bucket_files import find_in_bucket  # noqa: PLC0415

            yield from find_in_bucket(argument, names, patterns or Patterns())
            continue
        if is_remote(argument):
            yield names.claim_address(argument, name_of_address(argument))
            continue
        if is_foreign(argument):
            shown = shown_source(argument)
            must = "must be a path, or an http://, https:// or s3:// address"
            yield Problem(shown, UnsupportedFormat("submit", must, shown))
            continue
        path = Path(os.path.abspath(argument))  # noqa: PTH100 resolve() would follow links
        if is_folder(path):
            found = _in_folder(path, patterns or Patterns())
            yield from (_named(item, PurePath(path.parent), names) for item in found)
        elif glob.has_magic(argument) and not os.path.lexists(path):
            yield from _in_pattern(argument, names, patterns)
        else:
            yield _named(checked(path), PurePath(Path.cwd()), names)


def read_list(stream: IO[bytes], separator: bytes = b"\n") -> Iterator[str]:
    r"""Yield the paths of a list, one a line or, with `b"\\0"`, NUL-separated; empty ones not.

    Raises:
        InvalidOptions: a line too long to be a path, or a NUL in one.
    """
    rest = b""
    while block := stream.read1(_LIST_BLOCK_BYTES):  # type: ignore[attr-defined]  # buffered
        if separator != b"\0" and b"\0" in block:
            must = "has a path a line; with NULs between them: -0; audio: scribefarm transcribe -"
            raise InvalidOptions("list", must)
        *lines, rest = (rest + block).split(separator)
        yield from (os.fsdecode(line) for line in lines if line)
        if len(rest) > _MAX_LINE_BYTES:
            raise InvalidOptions("list", f"a path has at most {_MAX_LINE_BYTES} bytes", len(rest))
    if rest:
        yield os.fsdecode(rest)


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; one that cannot be looked at does not."""
    try:
        return path.is_dir()
    except OSError:
        return False


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
        if is_folder(path):
            continue
        kind = patterns.why_ignored(PurePath(match)) if patterns else ""
        item = Ignored(readable(str(path)), kind) if kind else checked(path)
        yield _named(item, PurePath(Path.cwd()), names)
    if not has_matches:
        error = SourceNotFound("submit", "the pattern must match a file", readable(pattern))
        yield Problem(readable(pattern), error)


def _in_folder(root: Path, patterns: Patterns) -> Iterator[Path | Problem | Ignored]:
    # Not recursive: folders may be nested deeper than Python's stack.
    folders = [root]
    while folders:
        for entry in _entries(folders.pop()):
            if isinstance(entry, Problem):
                yield entry
                continue
            path = Path(entry.path)
            # Each of these asks the file system about one entry; the others are not to blame.
            try:
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    folders.append(path)
                else:
                    kind = why_ignored(entry, path.relative_to(root), patterns)
                    yield Ignored(readable(entry.path), kind) if kind else checked(path)
            except OSError as error:
                yield _problem(path, error)


def _entries(folder: Path) -> Iterator["os.DirEntry[str] | Problem"]:
    """Yield what a folder holds; an error in the middle ends it."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        yield _problem(folder, error)


def why_ignored(entry: "os.DirEntry[str]", relative: PurePath, patterns: Patterns) -> str:
    """Return the kind of `Ignored` that an entry of a folder is; "" if it is taken.

    Raises:
        OSError: a link that leads nowhere.
    """
    if entry.name.startswith("._"):
        return "AppleDouble"
    if entry.name.startswith("."):
        return "hidden folder" if entry.is_dir(follow_symlinks=False) else "hidden"
    if entry.is_symlink() and _leads_to_folder(entry, relative, patterns):
        return "link to a folder"
    return patterns.why_ignored(relative)


def _leads_to_folder(entry: "os.DirEntry[str]", relative: PurePath, patterns: Patterns) -> bool:
    """Return whether a link leads to a folder; one that leads nowhere may have any name."""
    try:
        return entry.is_dir()
    except OSError:
        if patterns.accept(relative):
            raise
        return False


def _named(item: Path | Problem | Ignored, above: PurePath, names: Names) -> Found:
    if isinstance(item, Problem | Ignored):
        return item
    inside = item.relative_to(above) if item.is_relative_to(above) else item.relative_to("/")
    return names.claim(item, readable(str(inside)))


def _problem(path: Path, error: Exception) -> Problem:
    text = readable(str(path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Problem(text, SourceNotFound("submit", "must be an existing file", text))
    if isinstance(error, PermissionError):
        if error.errno == errno.EPERM and sys.platform == "darwin":
            must = "macOS must give the terminal program Full Disk Access"
            return Problem(text, PrivacyDenied("submit", must, text))
        return Problem(text, SourceForbidden("submit", "must be readable", text))
    if isinstance(error, ValueError):
        return Problem(text, SourceNotFound("submit", "a path holds no NUL", text))
    return Problem(text, SourceUnreachable("submit", f"must be readable: {error}", text))
