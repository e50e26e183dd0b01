"""A batch of any size, looked at within the server: sums come back, and what reports list by name.

Each job's own hash tells, so that nothing another program did to it is missed. Of a large batch the
records tell that the scripts keep of what ended (`producer/lua/ended.lua`), as exact as its counts:
a million files take a third of the time.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import redis

from producer.batches.counts import MOST_DAILY
from producer.batches.folders import FolderTally
from producer.batches.views import BatchCounts, FileView, view_files
from producer.batches.worked_time import WORKED, Bounds, WorkedTime
from producer.connection import server_errors
from producer.keys import batch_key
from producer.scripts import Scripts

# Files in one script call: about 10 ms, in which the server does nothing else.
_PAGE = 2000
# A scan may repeat files while the batch grows; then it is done again, so often at most.
_MAX_SCANS = 3
_NUM_SLOWEST = 10


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


class Label(NamedTuple):
    """What files that ended have in common, as `producer/lua/ended.lua` writes it."""

    state: str
    code: str = ""
    worker: str = ""
    model: str = ""
    language: str = ""
    flags: str = ""


class Survey:
    """What a batch's files amount to; those that ended within the bounds also by themselves.

    Attributes:
        counts: Of the whole batch.
        run_states, run_num_flagged: Of the files that ended within the bounds.
        workers, models, languages: Files that ended within the bounds, by who did them, with which
            model, and in which language they are.
        worked: When, and how much audio.
        folders: All files of the batch.
        failed: By error code. `flagged` have flagged segments, or are flagged as a whole; `empty`
            have no text.
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
        self.languages: Counter[str] = Counter()
        self.worked, self.folders = WorkedTime(), FolderTally()
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

    def add_page(self, sums: dict[str, Any], numbers: bytes, copies: bytes, theirs: bytes) -> None:
        """Add the sums of one page, as `lua/survey.lua` answers them."""
        self._states.update(sums["states"])
        for name, is_run in (("known", False), ("run", True)):
            for label, group in sums[name].items():
                self._add_ended(Label(*label.split("\t")), *group, is_run=is_run)
        for path, folder in sums["folders"].items():
            self.folders.add(path, folder)
        self.worked.add(numbers)
        self.worked.add_copies(copies.split(b"\n") if copies else [], theirs)

    def _add_ended(
        self, label: Label, num_files: int, audio_s: float, num_flagged: float, *, is_run: bool
    ) -> None:
        self._states[label.state] += num_files
        if label.state == "failed":
            self._codes[label.code] += num_files
        else:
            self._audio_s += audio_s
            self._num_flagged += int(num_flagged)
        if not is_run:
            return
        self.run_states[label.state] += num_files
        counted = [(self.workers, label.worker)]
        if label.state == "succeeded":
            self.run_num_flagged += int(num_flagged)
            counted += [(self.models, label.model), (self.languages, label.language)]
        for counter, key in counted:
            if key:
                counter[key] += num_files

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
        if view.state not in {"failed", "succeeded"}:
            self._states[view.state] += 1
            return
        is_run = self._bounds.hold(view.ended_at_s)
        label = Label(view.state, view.code, view.worker)
        self._add_ended(label, 1, view.audio_s, view.num_flagged, is_run=is_run)
        # The page counted it as one of the folder's files.
        ended = [0, view.state == "succeeded", view.state == "failed", view.audio_s]
        self.folders.add(view.name.rpartition("/")[0], ended)
        if not is_run:
            return
        if view.state == "failed":
            self.add_notable("failed", Named(view.name, view.job_id, view.code))
        elif view.num_flagged:
            self.add_notable("flagged", Named(view.name, view.job_id))
        if view.started_at_s is not None and view.ended_at_s is not None:
            numbers = WORKED.pack(view.started_at_s, view.ended_at_s, view.audio_s)
            self.worked.add_copies([view.job_id.encode()], numbers)


def survey(
    connection: redis.Redis, batch: str, bounds: Bounds | None = None, *, limit: int | None = None
) -> Survey:
    """Look at all files of a batch; `limit` bounds each list of files by name, None does not.

    Raises:
        ServerUnreachable: the server went away.
    """
    for _ in range(_MAX_SCANS):
        size_before = _size(connection, batch)
        found = _survey(
            connection, batch, bounds or Bounds(), limit, by_records=size_before > MOST_DAILY
        )
        if found.counts.total == size_before == _size(connection, batch):
            break
    return found


def _size(connection: redis.Redis, batch: str) -> int:
    with server_errors(connection):
        return int(connection.hlen(batch_key(batch)))


def _survey(
    connection: redis.Redis, batch: str, bounds: Bounds, limit: int | None, *, by_records: bool
) -> Survey:
    found, scripts = Survey(bounds, limit), Scripts(connection)

    def look(cursor: str) -> list[Any]:
        with server_errors(connection):
            answer: list[Any] = scripts.run(
                "survey",
                batch=batch,
                cursor=cursor,
                count=_PAGE,
                by_records=by_records,
                slowest_over=found.slowest_over_s,
                **bounds.as_numbers(),
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
    sums, numbers, copies, theirs, notable, odd = page
    found.add_page(json.loads(sums.decode(errors="replace")), numbers, copies, theirs)
    for what, *item in _groups(notable, 4):
        found.add_notable(what, Named(*item))
    found.keep_slowest()
    for view in view_files(connection, ((name, job_id) for name, job_id in _groups(odd, 2))):
        found.add_view(view)


def _groups(flat: Sequence[bytes], size: int) -> Iterator[list[str]]:
    for start in range(0, len(flat), size):
        yield [_text(each) for each in flat[start : start + size]]


def _text(stored: bytes) -> str:
    return stored.decode(errors="backslashreplace")
