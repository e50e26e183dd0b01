"""Times that were measured once, kept for the next starts: a small file for each model and machine."""

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError

from worker.engine.times import Times

# Measured otherwise from now on: what is kept counts no more.
VERSION = 2
MOST_BYTES = 64 * 1024

_log = structlog.get_logger()


@dataclass(frozen=True)
class Measured:
    """On what the times depend; another of any of these is measured anew.

    Attributes:
        machine: Its name, device, processors and memory.
        versions: Of what computes.
        model: Name, revision and dtype.
        backend: As in `worker.backend`.
        limit_bytes: Of memory: how many rows there was room to measure.
    """

    machine: str
    versions: str
    model: str
    backend: str
    limit_bytes: int
    version: int = VERSION

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    @property
    def file_name(self) -> str:
        """Name of the file, the same on every start."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


@dataclass(frozen=True)
class Kept:
    """What a file holds."""

    measured: Measured
    times: Times

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}


_KEPT = TypeAdapter(Kept)


class KeptTimes:
    """The files of a folder; whatever is wrong with one, it is measured anew.

    Args:
        folder: Made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, measured: Measured) -> Times | None:
        """Return what is kept; None if nothing is, or nothing that can be read and understood."""
        path = self._folder / measured.file_name
        try:
            kept = _KEPT.validate_json(_read(path), strict=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValidationError) as error:
            # Quoted: a file's own words may be anything.
            _log.warning("calibration_unreadable", path=str(path), error=repr(str(error)[:200]))
            return None
        return kept.times if kept.measured == measured else None

    def keep(self, measured: Measured, times: Times) -> None:
        """Write the file whole or not at all; a folder that cannot be written costs a log line."""
        path = self._folder / measured.file_name
        kept = _KEPT.dump_json(Kept(measured, times), indent=1)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Only the user may read it: a file of this kind is made so.
            descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(kept)
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            _log.warning("calibration_not_kept", folder=str(self._folder), error=str(error))


def _read(path: Path) -> bytes:
    """Return a file's bytes, if it is a small file and nothing else.

    Raises:
        OSError: it is a link, a pipe, a folder or larger than it could be, or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise OSError(errno.EINVAL, "is no file of ours")
        return file.read(MOST_BYTES)
