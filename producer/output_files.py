"""Files of transcripts: their names in an output folder, and writing them whole."""

import contextlib
import hashlib
import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

from producer.errors import InvalidOptions, OutputFailed
from producer.formats import file_extension

# Bytes of a file name on all common file systems.
_MAX_NAME_BYTES = 255

# `kept` is a file of other content that was not overwritten.
Written = Literal["written", "unchanged", "kept"]


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


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _short_hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]
