"""What was heard of a recording before its transcription starts: plain data for every family."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Speech:
    """Where somebody speaks, in seconds of the recording.

    Attributes:
        edges: Times at which speech begins and ends, in turn, rising; None if nobody listened.
        skipped: Silent stretches that are not transcribed, in order, apart from each other.
        skips_silence: Whether the job asked for that, be there such stretches or not.
    """

    edges: Sequence[float] | None = None
    skipped: Sequence[tuple[float, float]] = ()
    skips_silence: bool = False

    def after_silence(self, seconds: float) -> float:
        """Return the time itself, or the end of the skipped stretch that it lies in."""
        index = bisect_right(self.skipped, seconds, key=_start) - 1
        return seconds if index < 0 else max(seconds, self.skipped[index][1])

    def seconds_within(self, start: float, end: float) -> float:
        """Return how many of the seconds between two times are speech; all if nobody listened."""
        if self.edges is None:
            return max(0.0, end - start)
        total, index = 0.0, bisect_right(self.edges, start)
        index -= index % 2
        while index < len(self.edges) and self.edges[index] < end:
            spoken = min(end, self.edges[index + 1]) - max(start, self.edges[index])
            total += max(0.0, spoken)
            index += 2
        return total


def _start(span: tuple[float, float]) -> float:
    return span[0]
