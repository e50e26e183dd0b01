"""A share that does not answer, for tests: the system's calls hang until a test lets them return."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

from worker.audio import fingerprint, source_file


class DeadShare:
    """A share that holds every thread that touches a file named `dead...`, until it answers.

    Args:
        call: Which of `worker.audio`'s calls of the system hangs there.
    """

    def __init__(self, monkeypatch, call):
        self.answers, self.callers = threading.Event(), 0
        module = fingerprint if call == "lseek" else source_file
        monkeypatch.setattr(module, "os", self._system(call))

    def _system(self, call):
        """Return a module like `os` in which one function may hang."""
        real = getattr(os, call)

        def hanging(file, *arguments):
            path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else Path(file)
            if path.name.startswith("dead"):
                self.callers += 1
                self.answers.wait(60)
            return real(file, *arguments)

        return SimpleNamespace(**vars(os) | {call: hanging})
