"""Local files and mounted shares: check paths against `audio.roots`.

Resolving links may block for minutes on a share that does not answer, while the farm worker's loop
must renew its leases. So each check runs in a thread of its own, which may be left behind.
"""

import queue
import threading
from collections.abc import Collection
from pathlib import Path

from producer.errors import ScribefarmError
from producer.path_map import PathMap
from producer.roots import within_roots
from producer.source import is_fetched

Verdict = tuple[str, str | ScribefarmError]


class SourceCheck:
    """Checks paths in threads; `poll` returns the path to open or the error.

    Paths are first put where this machine has them. Addresses are let through: whoever fetches them
    checks them.
    """

    def __init__(self, roots: Collection[Path], path_map: Collection[str] = ()) -> None:
        self._roots, self._map = roots, PathMap(path_map)
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()

    def submit(self, execution_id: str, source: str) -> None:
        """Begin to check one path; without roots the answer is there at once."""
        if not is_fetched(source):
            source = self._map.apply(source)
        if not self._roots or is_fetched(source):
            self._verdicts.put((execution_id, source))
            return
        # A daemon thread: if it hangs, the worker can still end.
        threading.Thread(target=self._check, args=(execution_id, source), daemon=True).start()

    def poll(self) -> list[Verdict]:
        """Return the answers that have come since the last call, by execution id."""
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
