"""Keep a Mac awake while it has work: neither GPU nor CPU work keeps macOS from sleeping."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

# -i: no sleep for want of a person; the display may sleep, which makes it likelier that macOS lets
# the GPU work in peace (mlx#3267). -w: it ends with the worker, however that ends. It runs beside the
# worker, never around it: launchd's SIGTERM must reach the worker.
CAFFEINATE = ("/usr/bin/caffeinate", "-i", "-w")
# Between two batches of an evening the Mac stays awake; each start costs a process.
IDLE_S = 600.0

_log = structlog.get_logger()


class Process(Protocol):
    """What is needed of a child process."""

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""

    def terminate(self) -> None:
        """Ask it to end."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""


class Awake:
    """Holds macOS's assertion against sleep while there is work, and `IDLE_S` longer.

    Args:
        start: Starts a program beside this one.
        platform: Nothing is done anywhere but on darwin.
        clock: Seconds that only go forward.
    """

    def __init__(
        self,
        start: Callable[[Sequence[str]], Process] | None = None,
        platform: str = sys.platform,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start or _start
        self._is_mac, self._clock = platform == "darwin", clock
        self._child: Process | None = None
        self._busy_at = clock()

    def note(self, *, has_work: bool) -> None:
        """Start or end the assertion as it is needed; cheap enough for every turn of a loop."""
        if not self._is_mac:
            return
        if has_work:
            self._busy_at = self._clock()
            if self._child is None or self._child.poll() is not None:
                self._hold()
        elif self._child is not None and self._clock() > self._busy_at + IDLE_S:
            self.let_sleep()

    def let_sleep(self) -> None:
        """End the assertion."""
        if self._child is not None:
            self._child.terminate()
            self._child.wait()
            self._child = None

    def _hold(self) -> None:
        try:
            self._child = self._start((*CAFFEINATE, str(os.getpid())))
        except OSError as error:
            self._is_mac = False
            _log.warning("may_fall_asleep", error=str(error))


def _start(command: Sequence[str]) -> Process:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A Ctrl-C at the terminal is the worker's: it drains, and needs the Mac awake for it.
        start_new_session=True,
    )
