"""Which start of the machine this is, so that a machine's own death is told from a worker's."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

_LINUX = Path("/proc/sys/kernel/random/boot_id")
_MACOS = ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
_TIMEOUT_S = 5.0


class Ask(Protocol):
    """Runs a program and returns what it printed."""

    def __call__(self, command: Sequence[str], /) -> str:
        """Raise OSError or subprocess.SubprocessError if that does not work."""


def boot_id(platform: str = sys.platform, ask: Ask | None = None) -> str:
    """Return a name of this start of the machine, the same for all its processes.

    Where the system has none it is this process's own, which no other process will confirm.
    """
    try:
        if platform == "darwin":
            found = (ask or _ask)(_MACOS).strip()
        else:
            found = _LINUX.read_text(encoding="ascii").strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        found = ""
    # A word, in a line of the server's.
    return found if found and found.isprintable() and " " not in found else uuid4().hex


def _ask(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    return done.stdout
