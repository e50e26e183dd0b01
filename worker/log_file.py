"""A log that may be moved away under a running worker, as newsyslog and logrotate do.

launchd opens a job's log once. What is written after a rotation would go into the file that was put
aside, and be lost with it.
"""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

_STDERR = 2


def follow(path: Path) -> None:
    """Send stderr to this file, and look before each log line whether it is still the same file."""
    _reopen(path)

    def look(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
        with contextlib.suppress(OSError):
            if not _is_stderr(path):
                _reopen(path)
        return event

    structlog.configure(processors=[look, *structlog.get_config()["processors"]])


def _is_stderr(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(_STDERR))
    except FileNotFoundError:
        return False


def _reopen(path: Path) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        os.dup2(opened, _STDERR)
    finally:
        os.close(opened)
