"""A batch of any size, looked at within the server: sums come back, and what reports list by name.

A million files take some seconds and little memory here, where reading each job's hash takes half
a minute and most of a gigabyte.
"""

import json
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis

from producer.batches.views import BatchCounts, FileView, view_files
from producer.connection import server_errors
from producer.keys import batch_key
from producer.rq_data import format_time
from producer.scripts import Scripts
from producer.states import STATE_OF_RQ_STATUS

# Files in one script call: about 20 ms, in which the server does nothing else.
_PAGE = 2000
# Events in one script call, about as long.
_EVENTS_PAGE = 5000
# A scan may repeat files while the batch grows; then it is done again, so often at most.
_MAX_SCANS = 3
# A worker between two recordings works too: only longer gaps are pauses.
_SHORTEST_PAUSE_S = 1.0
_NUM_SLOWEST = 10
# Times of jobs that are sorted at once.
_MAX_LOOSE = 20_000

# What a job was worked with: start, end, seconds of audio.
_WORKED = struct.Struct("<ddd")


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


class Named(NamedTuple):
    """A file that a report lists: `detail` is an error code, flags, or seconds."""

    name: str
    job_id: str
    detail: str = ""


class Listing:
    """The first of many files by name, and how many there are."""

    def __init__(self, limit: int | None) -> None:
        self._limit, self._items, self.num_files = limit, list[Named](), 0

    def add(self, item: Named) -> None:
        """Count a file; keep it if it may be one of the first."""
        self.num_files += 1
        self._items.append(item)
        if self._limit is not None and len(self._items) > 2 * self._limit:
            self._items = sorted(self._items)[: self._limit]

    def first(self) -> list[Named]:
        """Return the first `limit` files in the order of their names."""
        return sorted(self._items)[: self._limit]


@dataclass
class WorkedTime:
    """The union of the times in which a job was in hand, and what was done in them.

    Attributes:
        audio_s: Seconds of audio of the jobs that succeeded; files of the same audio are one job.
    """

    audio_s: float = 0.0
    _united: list[tuple[float, float]] = field(default_factory=list)
    _loose: list[tuple[float, float]] = field(default_factory=list)
    # Hashes of job ids: a job that stands in the batch under two names was worked once.
    _seen: set[int] = field(default_factory=set)

    @property
    def num_jobs(self) -> int:
        """Jobs that were worked."""
        return len(self._seen)

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """(start, end) in order, apart from each other by more than a second."""
        self._unite()
        return self._united

    @property
    def worked_s(self) -> float:
        """Seconds in which at least one job was in hand."""
        return sum(end - start for start, end in self.intervals)

    def has(self, job_id: bytes) -> bool:
        """Return whether the job was worked."""
        return hash(job_id) in self._seen

    def add(self, jobs: Iterable[tuple[Any, tuple[float, float, float]]]) -> None:
        """Add jobs: (id, (start, end, seconds of audio))."""
        for job_id, (start, end, audio_s) in jobs:
            key = hash(job_id)
            if key not in self._seen:
                self._seen.add(key)
                self.audio_s += audio_s
                self._loose.append((start, end))
        if len(self._loose) > _MAX_LOOSE:
            self._unite()

    def _unite(self) -> None:
        self._united = _union([*self._united, *self._loose])
        self._loose.clear()


def _union(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return intervals in order, without overlaps and short gaps."""
    union: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if union and start - union[-1][1] <= _SHORTEST_PAUSE_S:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


class Survey:
    """What a batch's files amount to; those that ended within the bounds also by themselves.

    Attributes:
        counts: Of the whole batch.
        run_states, run_num_flagged: Of the files that ended within the bounds.
        workers, models: Files that ended within the bounds, by who did them and with which model.
        worked: When, and how much audio.
        failed: By error code. `flagged` have flagged segments, `flagged_whole` are flagged
            themselves, `empty` have no text.
        slowest: (seconds from claim to result, name, seconds of audio), the slowest first.
    """

    def __init__(self, bounds: Bounds, limit: int | None) -> None:
        self._bounds, self._limit = bounds, limit
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._audio_s, self._num_flagged = 0.0, 0
        self.run_states: Counter[str] = Counter()
        self.run_num_flagged = 0
        self.workers: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.worked = WorkedTime()
        self.failed: dict[str, Listing] = {}
        self.flagged, self.empty = Listing(limit), Listing(limit)
        self.slowest: list[tuple[float, str, float]] = []

    @property
    def counts(self) -> BatchCounts:
        """The counts of the whole batch."""
        return BatchCounts(
            total=self._states.total(),
            failed_by_code=dict(self._codes.most_common()),
            audio_s=round(self._audio_s, 3),
            num_flagged=self._num_flagged,
            **self._states,
        )

    @property
    def slowest_over_s(self) -> float:
        """Files that took no longer are not among the slowest."""
        return self.slowest[-1][0] if len(self.slowest) == _NUM_SLOWEST else -1.0

    def add_page(self, sums: dict[str, Any], ids: bytes, numbers: bytes) -> None:
        """Add the sums of one page, as `lua/survey.lua` answers them."""
        self._states.update(sums["states"])
        self._codes.update(sums["codes"])
        self._audio_s += sums["audio_s"]
        self._num_flagged += int(sums["num_flagged"])
        self.run_states.update(sums["run_states"])
        self.run_num_flagged += int(sums["run_num_flagged"])
        self.workers.update(sums["workers"])
        self.models.update(sums["models"])
        if ids:
            self.worked.add(zip(ids.split(b"\n"), _WORKED.iter_unpack(numbers), strict=True))

    def add_notable(self, what: str, item: Named) -> None:
        """List a file that ended within the bounds."""
        if what == "failed":
            self.failed.setdefault(item.detail, Listing(self._limit)).add(item)
        elif what == "empty":
            self.empty.add(item)
        elif what == "slow":
            took_s, audio_s = map(float, item.detail.split())
            self.slowest.append((took_s, item.name, audio_s))
        else:
            self.flagged.add(item)

    def keep_slowest(self) -> None:
        """Forget what is not among the slowest any more."""
        self.slowest = sorted(self.slowest, key=lambda each: (-each[0], each[1]))[:_NUM_SLOWEST]

    def add_view(self, view: FileView) -> None:
        """Add a file whose hash did not say enough, as its result tells it."""
        self._states[view.state] += 1
        if view.state == "failed":
            self._codes[view.code] += 1
        elif view.state == "succeeded":
            self._audio_s += view.audio_s
            self._num_flagged += view.num_flagged
        is_ended = view.state in {"failed", "succeeded"}
        if not is_ended or not self._bounds.hold(view.ended_at_s):
            return
        self.run_states[view.state] += 1
        self.run_num_flagged += view.num_flagged
        self.workers.update([view.worker] if view.worker else [])
        if view.state == "failed":
            self.add_notable("failed", Named(view.name, view.job_id, view.code))
        elif view.num_flagged:
            self.add_notable("flagged", Named(view.name, view.job_id))
        if view.started_at_s is not None and view.ended_at_s is not None:
            times = (view.started_at_s, view.ended_at_s, view.audio_s)
            self.worked.add([(view.job_id.encode(), times)])


def survey(
    connection: redis.Redis, batch: str, bounds: Bounds | None = None, *, limit: int | None = None
) -> Survey:
    """Look at all files of a batch; `limit` bounds each list of files by name, None does not.

    Raises:
        ServerUnreachable: the server went away.
    """
    for _ in range(_MAX_SCANS):
        size_before = _size(connection, batch)
        found = _survey(connection, batch, bounds or Bounds(), limit)
        if found.counts.total == size_before == _size(connection, batch):
            break
    return found


def taken_over(connection: redis.Redis, worked: WorkedTime, bounds: Bounds) -> Counter[str]:
    """Count the takeovers of worked jobs by the worker that was lost with each.

    The events stream tells, which keeps about the last hundred thousand events.
    """
    counts: Counter[str] = Counter()
    first, last = _event_id(bounds.since_s, "-"), _event_id(bounds.until_s, "+")
    while first:
        with server_errors(connection):
            next_id, *pairs = Scripts(connection).run(
                "taken_over", first=first, last=last, count=_EVENTS_PAGE
            )
        for job_id, worker in zip(pairs[::2], pairs[1::2], strict=True):
            if worked.has(job_id):
                counts[worker.decode(errors="backslashreplace")] += 1
        # The next page begins behind this one's last entry.
        first = f"({next_id.decode()}" if next_id else ""
    return counts


def _event_id(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{int(seconds * 1000)}"


def _size(connection: redis.Redis, batch: str) -> int:
    with server_errors(connection):
        return int(connection.hlen(batch_key(batch)))


def _survey(connection: redis.Redis, batch: str, bounds: Bounds, limit: int | None) -> Survey:
    found, scripts = Survey(bounds, limit), Scripts(connection)

    def look(cursor: str) -> list[Any]:
        with server_errors(connection):
            answer: list[Any] = scripts.run(
                "survey",
                batch=batch,
                cursor=cursor,
                count=_PAGE,
                states=STATE_OF_RQ_STATUS,
                since=_stamp(bounds.since_s),
                until=_stamp(bounds.until_s),
                slowest_over=found.slowest_over_s,
            )
        return answer

    # The server looks at the next page while we add up the last one.
    with ThreadPoolExecutor(max_workers=1) as server:
        pending: Future[list[Any]] | None = server.submit(look, "0")
        while pending:
            next_cursor, *page = pending.result()
            cursor = next_cursor.decode()
            pending = None if cursor == "0" else server.submit(look, cursor)
            _add(connection, found, page)
    return found


def _add(connection: redis.Redis, found: Survey, page: list[Any]) -> None:
    sums, ids, numbers, notable, odd = page
    found.add_page(json.loads(sums.decode(errors="replace")), ids, numbers)
    for what, *item in _groups(notable, 4):
        found.add_notable(what, Named(*item))
    found.keep_slowest()
    for view in view_files(connection, ((name, job_id) for name, job_id in _groups(odd, 2))):
        found.add_view(view)


def _groups(flat: Sequence[bytes], size: int) -> Iterator[list[str]]:
    for start in range(0, len(flat), size):
        yield [each.decode(errors="backslashreplace") for each in flat[start : start + size]]


def _stamp(seconds: float | None) -> str:
    return "" if seconds is None else format_time(seconds)
