"""How much memory is in use while a benchmark runs, sampled in a thread of its own."""

import threading
import time


class MemoryLog(threading.Thread):
    """Notes sizes, with the time, until it is stopped.

    Args:
        sizes: Returns them, always as many.
        every_s: Between two looks.
    """

    def __init__(self, sizes, every_s):
        super().__init__(daemon=True)
        self._sizes, self._every_s = sizes, every_s
        self._ended = threading.Event()
        self._began = time.perf_counter()
        self._samples = []

    def run(self):
        while not self._ended.wait(self._every_s):
            self._samples.append((time.perf_counter() - self._began, self._sizes()))

    def stop(self):
        self._ended.set()
        self.join()

    def by_span(self, seconds):
        """Return the highest sizes of each whole span of time, and of a last part."""
        spans = {}
        for elapsed, sizes in self._samples:
            number = int(elapsed // seconds)
            spans[number] = list(map(max, spans.get(number, sizes), sizes))
        return [spans[number] for number in sorted(spans)]
