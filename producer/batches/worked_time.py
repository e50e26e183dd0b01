"""When a batch was worked on, and what was done in that time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import redis

from producer.connection import server_errors
from producer.scripts import Scripts
from producer.stored_fields import stored_text

# Events in one script call, about as long as a page of files.
_EVENTS_PAGE = 5000
# A worker between two recordings works too: only longer gaps are pauses.
_SHORTEST_PAUSE_S = 1.0
# Times of jobs that are sorted at once.
_MAX_LOOSE = 50_000
# Beyond all times that are kept.
_FOREVER_S = 1e12


class Bounds(NamedTuple):
    """The time of which a survey speaks, in seconds since the epoch; None is no bound."""

    since_s: float | None = None
    until_s: float | None = None

    def hold(self, ended_at_s: float | None) -> bool:
        """Return whether what ended then belongs to it."""
        if ended_at_s is None:
            return self.since_s is None and self.until_s is None
        is_late_enough = self.since_s is None or ended_at_s >= self.since_s
        return is_late_enough and (self.until_s is None or ended_at_s < self.until_s)

    def as_numbers(self) -> dict[str, float]:
        """Return them as arguments of scripts, which know an end at -1 as one without a time."""
        return {
            "since": -1.0 if self.since_s is None else self.since_s,
            "until": _FOREVER_S if self.until_s is None else self.until_s,
        }


@dataclass
class WorkedTime:
    """The union of the times in which a job was in hand, and what was done in them.

    Attributes:
        num_jobs: Jobs that were worked; files of the same audio are one.
        audio_s: Seconds of audio of those that succeeded.
    """

    num_jobs: int = 0
    audio_s: float = 0.0
    _united: list[tuple[float, float]] = field(default_factory=list)
    _starts: list[float] = field(default_factory=list)
    _ends: list[float] = field(default_factory=list)
    # Hashes of the ids of jobs that may stand for several files: each was worked once.
    _seen: set[int] = field(default_factory=set)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """(start, end) in order, apart from each other by more than a second."""
        self._unite()
        return self._united

    @property
    def worked_s(self) -> float:
        """Seconds in which at least one job was in hand."""
        return sum(end - start for start, end in self.intervals)

    def add(self, starts: Sequence[float], ends: Sequence[float], audio_s: float) -> None:
        """Add jobs that stand for one file each, with the seconds of audio of all."""
        self._starts += starts
        self._ends += ends
        self.audio_s += audio_s
        self.num_jobs += len(starts)
        if len(self._starts) > _MAX_LOOSE:
            self._unite()

    def add_copy(self, job_id: str, start: float, end: float, audio_s: float) -> None:
        """Add a job that may come again for another file."""
        key = hash(job_id)
        if key not in self._seen:
            self._seen.add(key)
            self.add((start,), (end,), audio_s)

    def _unite(self) -> None:
        starts = sorted([*(start for start, _ in self._united), *self._starts])
        ends = sorted([*(end for _, end in self._united), *self._ends])
        self._starts.clear()
        self._ends.clear()
        # Between two stretches of work all that had begun has ended: as many ends as starts.
        breaks = [
            index
            for index, (end, start) in enumerate(zip(ends, starts[1:], strict=False), 1)
            if start - end > _SHORTEST_PAUSE_S
        ]
        firsts = [0, *breaks] if starts else []
        lasts = [*breaks, len(ends)]
        self._united = [
            (starts[first], ends[last - 1]) for first, last in zip(firsts, lasts, strict=False)
        ]


def taken_over(connection: redis.Redis, batch: str, bounds: Bounds) -> Counter[str]:
    """Count the takeovers of a batch's jobs by the worker that was lost with each.

    Of jobs that ended within the bounds. The events stream tells, which keeps about the last
    hundred thousand events.
    """
    counts: Counter[str] = Counter()
    first, last = _event_id(bounds.since_s, "-"), _event_id(bounds.until_s, "+")
    while first:
        with server_errors(connection):
            next_id, *workers = Scripts(connection).run(
                "taken_over",
                batch=batch,
                first=first,
                last=last,
                count=_EVENTS_PAGE,
                **bounds.as_numbers(),
            )
        counts.update(map(stored_text, workers))
        # The next page begins behind this one's last entry.
        first = f"({next_id.decode()}" if next_id else ""
    return counts


def _event_id(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{int(seconds * 1000)}"
