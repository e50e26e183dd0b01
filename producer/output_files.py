"""Files of transcripts: their names in an output folder, and writing them whole."""

import contextlib
import errno
import hashlib
import os
import posixpath
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from producer.errors import InvalidOptions, OutputFailed
from producer.formats import FORMATS, file_extension
from producer.paging import pages
from producer.temporary_database import open_temporary_database

# Bytes of a file name on all common file systems.
_MAX_NAME_BYTES = 255

# What outputs end in, and the part of one of them that may end another's stem.
_SUFFIXES = tuple(f".{file_extension(name).casefold()}" for name in FORMATS)
_TIMED = ".timed"

_PAGE = 1000

_SCHEMA = """
CREATE TABLE outputs (name TEXT PRIMARY KEY, tries INT, claim TEXT) WITHOUT ROWID;
CREATE TABLE folders (claim TEXT PRIMARY KEY) WITHOUT ROWID;
"""

# All outputs whose stem another one claims too, or where another one has a folder, try the next.
_TRY_NEXT = """
UPDATE outputs SET tries = tries + 1, claim = claim_of(name, tries + 1)
WHERE claim IN (SELECT claim FROM outputs GROUP BY claim HAVING COUNT(*) > 1)
OR claim IN (SELECT claim FROM folders)
"""

# `kept` is a file of other content that was not overwritten.
Written = Literal["written", "unchanged", "kept"]


class OutputStems:
    """Gives each recording's name the path of its outputs without their extension.

    That is the name without its own extension, or else with it, or else with a hash behind it, so
    that no two recordings share an output in any format, whatever the case or accents of their
    names, and none stands where another has a folder. The names are kept on disk, not in memory.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names of all recordings, each once."""
        self._database = open_temporary_database(_SCHEMA)
        self._database.create_function(
            "claim_of", 2, lambda name, tries: _claim(_candidate(name, tries)), deterministic=True
        )
        for page in pages(names, _PAGE):
            self._add(page)
        self._database.execute("CREATE INDEX claims ON outputs (claim)")
        while self._database.execute(_TRY_NEXT).rowcount:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def of(self, name: str) -> str:
        """Return the stem of one of the names."""
        asked = "SELECT tries FROM outputs WHERE name = ?"
        ((tries,),) = self._database.execute(asked, (name,))
        return _candidate(name, tries)

    def _add(self, names: list[str]) -> None:
        stems = [(name, _candidate(name, 0)) for name in names]
        self._database.executemany(
            "INSERT OR IGNORE INTO outputs VALUES (?, 0, ?)",
            [(name, _claim(stem)) for name, stem in stems],
        )
        folders = {folder for _, stem in stems for folder in _folders_above(stem)}
        taken = {
            (_claim(folder.removesuffix(suffix)),)
            for folder in folders
            for suffix in _SUFFIXES
            if folder.endswith(suffix)
        }
        self._database.executemany("INSERT OR IGNORE INTO folders VALUES (?)", taken)


def _candidate(name: str, tries: int) -> str:
    plain = str(PurePosixPath(name))
    if tries < 2:  # noqa: PLR2004 without its extension, and with it
        return plain if tries else posixpath.splitext(plain)[0]
    return f"{plain}.{_short_hash(name + '+' * (tries - 2))}"


def _claim(stem: str) -> str:
    """Return what two stems have in common if an output of one could be an output of the other."""
    folded = _folded(stem)
    # As text, `talk.timed` is where `talk` is with times.
    while folded.endswith(_TIMED):
        folded = folded.removesuffix(_TIMED)
    return folded


def _folders_above(stem: str) -> Iterator[str]:
    """Yield the folders in which a stem's outputs stand, folded."""
    folder = posixpath.dirname(_folded(stem))
    while folder.strip("/"):
        yield folder
        folder = posixpath.dirname(folder)


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


def write_whole(path: Path, text: str, *, within: Path, overwrite: bool) -> Written:
    """Write a file that appears whole or not at all; make the folders between it and `within`.

    A file of the same content is left alone, one of other content replaced only with `overwrite`.
    Others may write into the folder: no link within it is followed, and what stands there is read
    only if it is a regular file of the same size.

    Raises:
        OSError: the disk is full, the folder not writable, or a link.
    """
    content = text.encode()
    within.mkdir(parents=True, exist_ok=True)
    with _folder_of(path, within) as folder:
        found = _compare(folder, path.name, content)
        if found == "same":
            return "unchanged"
        if found == "other" and not overwrite:
            return "kept"
        _write(folder, path.name, content)
    return "written"


@contextlib.contextmanager
def _folder_of(path: Path, within: Path) -> Iterator[int]:
    """Open the folder of a file, and make it, following no link below `within`."""
    folder = os.open(within, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in path.relative_to(within).parent.parts:
            above, folder = folder, _open_folder(folder, name)
            os.close(above)
        yield folder
    finally:
        os.close(folder)


def _open_folder(above: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=above)
    except FileNotFoundError:
        # Somebody else may have made it meanwhile.
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=above)
        return os.open(name, flags, dir_fd=above)


def _compare(folder: int, name: str, content: bytes) -> Literal["absent", "same", "other"]:
    """Compare what stands in a folder under a name; links, pipes and devices are `other`."""
    try:
        # Without O_NONBLOCK a pipe would wait for a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        # A link, or a socket.
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP}:
            return "other"
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(content):
        os.close(descriptor)
        return "other"
    with os.fdopen(descriptor, "rb") as file:
        return "same" if file.read(len(content) + 1) == content else "other"


def _write(folder: int, name: str, content: bytes) -> None:
    # Short, since the real name may have no byte to spare; unlike `mkstemp`, it is made in the
    # folder that was opened, and with the rights that the user's mask gives.
    draft = f".scribefarm-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(draft, flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(content)
        os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)


@contextlib.contextmanager
def output_errors(context: str, path: Path) -> Iterator[None]:
    """Translate the system's errors of writing `path` into `OutputFailed`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputFailed(context, f"must be writable: {reason}", path) from error


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
