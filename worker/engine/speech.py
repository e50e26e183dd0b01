"""What was heard of a recording before its transcription starts: plain data for every family."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias


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


Spans: TypeAlias = Sequence[tuple[float, float]]


def merged(one: Spans, other: Spans) -> list[tuple[float, float]]:
    """Return the stretches that lie in either of two lists, in order and apart from each other."""
    found: list[tuple[float, float]] = []
    for start, end in sorted((*one, *other)):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def common(*lists: Spans) -> Spans:
    """Return the stretches that lie in all of some lists, each in order and apart; none of none."""
    if not lists:
        return ()
    first, *others = lists
    for other in others:
        first = list(_overlaps(first, other))
    return first


def _overlaps(one: Spans, other: Spans) -> Iterator[tuple[float, float]]:
    index = 0
    for start, end in one:
        while index < len(other) and other[index][1] <= start:
            index += 1
        for begin, stop in islice(other, index, None):
            if begin >= end:
                break
            yield max(start, begin), min(end, stop)


def _start(span: tuple[float, float]) -> float:
    return span[0]
