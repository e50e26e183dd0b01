"""Check paths against `audio.roots` beside the loop: resolving links may wait for a dead share.

The loop renews leases. If it waited for a share that does not answer, every other recording of
this worker would be lost to it; so each check has a thread of its own, which may be left behind.
"""

import queue
import threading
from collections.abc import Collection
from pathlib import Path

from producer.errors import ScribefarmError, SourceForbidden

Verdict = tuple[str, str | ScribefarmError]


class SourceCheck:
    """Answers, some time later, with the path to open or with the error."""

    def __init__(self, roots: Collection[Path]) -> None:
        self._roots = roots
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()

    def submit(self, execution_id: str, source: str) -> None:
        """Check one path; without roots the answer is there at once."""
        if not self._roots:
            self._verdicts.put((execution_id, source))
            return
        # A daemon: one that hangs must not keep the worker from ending.
        threading.Thread(target=self._check, args=(execution_id, source), daemon=True).start()

    def poll(self) -> list[Verdict]:
        """Return the answers that have come."""
        verdicts = []
        while not self._verdicts.empty():
            verdicts.append(self._verdicts.get())
        return verdicts

    def _check(self, execution_id: str, source: str) -> None:
        try:
            path = within_roots(source, self._roots)
        except ScribefarmError as error:
            self._verdicts.put((execution_id, error))
        else:
            self._verdicts.put((execution_id, path))


def within_roots(source: str, roots: Collection[Path]) -> str:
    """Return the path to open: links resolved, below one of `roots`; unchanged without roots.

    Raises:
        SourceForbidden: the recording lies elsewhere, whether or not it exists.
    """
    if not roots:
        return source
    try:
        path = Path(source).resolve()
        allowed = any(path.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceForbidden("source", f"must be a path: {error}", source) from error
    if not allowed:
        raise SourceForbidden("source", "must lie below audio.roots", source)
    return str(path)
