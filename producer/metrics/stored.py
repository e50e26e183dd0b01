"""The counters and histograms that the scripts keep: `lua/metrics.lua` says what is counted when.

Any program may have written there: a field that is none of ours is left out.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Self

from producer.histograms import JOB_BOUNDS_S, WAIT_BOUNDS_S

_MAX_TOTAL = 2**63
_MS = 1000.0


@dataclass
class Distribution:
    """How many values there are up to each of some bounds, in seconds, and their sum."""

    bounds: Sequence[float]
    counts: dict[float, int] = field(default_factory=dict)
    sum_s: float = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Return (bound, values up to it), the last one `+Inf`, as Prometheus has them."""
        total, found = 0, []
        for bound in sorted({*self.bounds, *self.counts, math.inf}):
            total += self.counts.get(bound, 0)
            name = "+Inf" if math.isinf(bound) else f"{bound:g}"
            found.append((name, float(total)))
        return found


class JobKind(NamedTuple):
    """Labels of jobs that ended."""

    queue: str
    outcome: str
    code: str


@dataclass
class Counters:
    """All counters since the farm began to count.

    Attributes:
        jobs: That ended.
        audio_s: Seconds of those that succeeded, by worker and model.
        waits: From submission to the claim that led to the end, by queue.
        durations: From that claim to the end, by outcome.
        flags: Recordings, by flag.
        retries: Attempts that are made again, by error code.
        taken_over: Jobs taken over from lost workers.
        workers_lost: Workers.
        overflow: Counts that found no room for their labels.
    """

    jobs: dict[JobKind, int] = field(default_factory=dict)
    audio_s: dict[tuple[str, str], float] = field(default_factory=dict)
    waits: dict[str, Distribution] = field(default_factory=lambda: _empty(WAIT_BOUNDS_S))
    durations: dict[str, Distribution] = field(default_factory=lambda: _empty(JOB_BOUNDS_S))
    flags: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    taken_over: int = 0
    workers_lost: int = 0
    overflow: int = 0

    @classmethod
    def parse(cls, stored: Iterable[tuple[bytes, bytes]]) -> Self:
        """Read the fields of the server's hash."""
        counters = cls()
        for name, value in stored:
            number = _whole(value)
            if number is not None:
                counters._take(name.decode(errors="replace").split("|"), number)
        return counters

    @property
    def num_ended(self) -> int:
        """Jobs that ended."""
        return sum(self.jobs.values())

    @property
    def total_audio_s(self) -> float:
        """Seconds of audio of the jobs that succeeded."""
        return sum(self.audio_s.values())

    def _take(self, parts: list[str], number: int) -> None:
        match parts:
            case ["jobs", queue, outcome, code]:
                self.jobs[JobKind(queue, outcome, code)] = number
            case ["audio_ms", worker, model]:
                self.audio_s[worker, model] = number / _MS
            case ["flags", flag]:
                self.flags[flag] = number
            case ["retries", code]:
                self.retries[code] = number
            case ["jobs_taken_over"]:
                self.taken_over = number
            case ["workers_lost"]:
                self.workers_lost = number
            case ["overflow"]:
                self.overflow = number
            case _:
                self._take_time(parts, number)

    def _take_time(self, parts: list[str], number: int) -> None:
        match parts:
            case ["wait", queue, bound]:
                _take_bucket(self.waits[queue], bound, number)
            case ["wait_ms", queue]:
                self.waits[queue].sum_s = number / _MS
            case ["busy", outcome, bound]:
                _take_bucket(self.durations[outcome], bound, number)
            case ["busy_ms", outcome]:
                self.durations[outcome].sum_s = number / _MS


def _empty(bounds: Sequence[float]) -> dict[str, Distribution]:
    return defaultdict(partial(Distribution, bounds))


def _take_bucket(distribution: Distribution, bound: str, number: int) -> None:
    try:
        upper_s = float(bound)
    except ValueError:
        return
    if upper_s > 0:
        distribution.counts[upper_s] = number


def _whole(value: bytes) -> int | None:
    number = int(value) if value.isdigit() and len(value) < 20 else -1  # noqa: PLR2004 64 bits
    return number if 0 <= number < _MAX_TOTAL else None
