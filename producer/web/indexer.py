"""Keeps the index: copies the files and texts of batches that are looked at, then follows events.

The server is asked for little at a time, and left alone in between: beyond a first burst, copying
takes at most a hundredth of its time, however large a batch is.
"""

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import redis

from producer.batches.counts import read_counts
from producer.batches.survey import EndedFiles
from producer.batches.views import batch_exists, latest_batches, view_files
from producer.connection import server_errors
from producer.errors import JobNotFound, ScribefarmError
from producer.events import Event
from producer.queue import read_results
from producer.result import Transcript
from producer.scripts import Scripts
from producer.web.index import Index, IndexedFile

# Batches that are followed though nobody looks at them, so that a search finds what came last.
NUM_LATEST = 3
# Files in one script call, a few milliseconds; transcripts in one answer, a megabyte or so.
_PAGE, _TEXTS = 500, 20
# Calls that are made at once: a batch of ten thousand files is there when its page is.
_BURST = 40
_SHARE = 0.01
# Counts that differ from the index's are looked at so often; what is on its way settles by then.
_CHECK_EVERY_S = 10.0
_OVER = object()
_UNENDED = frozenset({"queued", "running", "waiting"})

_log = logging.getLogger(__name__)


class Pace:
    """Spreads calls, so that the server is busy with them for a share of the time."""

    def __init__(self, share: float = _SHARE, burst: int = _BURST) -> None:
        self._share, self._burst, self._left = share, burst, burst
        self._next_at = 0.0

    def is_time(self) -> bool:
        """Return whether the next call may be made."""
        return self._left > 0 or time.monotonic() >= self._next_at

    def note(self, took_s: float) -> None:
        """Say how long a call took."""
        now = time.monotonic()
        if now > self._next_at + took_s / self._share:
            self._left = self._burst
        if self._left > 0:
            self._left -= 1
        self._next_at = now + took_s / self._share


class Indexer:
    """Fills an `Index` from the server; `step` is called again and again by one thread."""

    def __init__(self, connection: redis.Redis, index: Index, max_bytes: int) -> None:
        self._connection, self._index, self._max_bytes = connection, index, max_bytes
        self._pace = Pace()
        self._crawls: dict[str, Iterator[None]] = {}
        self._checked_at = -math.inf
        self._differs: set[str] = set()
        # Batches whose texts are all here; new ones come with the events.
        self._has_texts: set[str] = set()
        # Pages begin to copy a batch while the thread goes on with another.
        self._lock = threading.Lock()
        self.is_full = False

    def look_at(self, batch: str, budget_s: float = 0.0) -> None:
        """Keep a batch from now on; copies what the budget allows at once.

        Raises:
            ServerUnreachable: the server went away.
        """
        is_new = batch not in self._index.tracked()
        self._index.track(batch, time.time())
        if not is_new:
            return
        crawl, deadline = self._crawl(batch), time.monotonic() + budget_s
        with self._lock:
            for _ in range(_BURST):
                if next(crawl, _OVER) is _OVER:
                    return
                if time.monotonic() > deadline:
                    break
            self._crawls[batch] = crawl

    def has_texts(self, batch: str) -> bool:
        """Return whether what succeeded of a batch was read, so that words and flags are known."""
        return batch in self._has_texts

    def follow(self, events: list[Event]) -> None:
        """Note what ended, and fetch the texts of what succeeded.

        Raises:
            ServerUnreachable: the server went away.
        """
        wanted = {}
        for event in events:
            if event.kind != "job_ended":
                continue
            ended_s = int(event.id.partition("-")[0]) / 1000
            is_ours = self._index.set_ended(
                event.job_id, event.status, event.code, event.worker, ended_s
            )
            if is_ours and event.status == "succeeded":
                wanted[event.job_id] = ended_s
        jobs = [] if self.is_full else list(wanted.items())
        for first in range(0, len(jobs), _TEXTS):
            self._fetch(jobs[first : first + _TEXTS])

    def step(self) -> bool:
        """Do a little of what is left; False if there was nothing to do, or it is not time yet.

        Raises:
            ServerUnreachable: the server went away.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._checked_at > _CHECK_EVERY_S:
                self._checked_at = now
                self._check()
            if not self._pace.is_time():
                return False
            return any(self._copy(batch) for batch in self._index.tracked())

    def _copy(self, batch: str) -> bool:
        """Copy a little of a batch; False if nothing is left of it."""
        if crawl := self._crawls.get(batch):
            if next(crawl, _OVER) is _OVER:
                del self._crawls[batch]
                self._has_texts.discard(batch)
            return True
        if self.is_full or batch in self._has_texts:
            return False
        jobs = self._index.without_text(batch, _TEXTS)
        if len(jobs) < _TEXTS:
            self._has_texts.add(batch)
        self._fetch(jobs)
        return bool(jobs)

    def _check(self) -> None:
        """Begin to copy the batches that differ from the server's counts, twice in a row or at first."""
        for batch in latest_batches(self._connection, NUM_LATEST):
            if batch not in self._index.tracked():
                self._index.track(batch, 0.0)
        differs = set()
        for batch in self._index.tracked():
            if not batch_exists(self._connection, batch):
                self._index.forget(batch)
            elif batch not in self._crawls and not self._agrees(batch):
                differs.add(batch)
                if batch in self._differs or not self._index.is_whole(batch):
                    self._crawls[batch] = self._crawl(batch)
        self._differs = differs
        self._keep_small()

    def _agrees(self, batch: str) -> bool:
        try:
            counts = read_counts(self._connection, batch)
        except JobNotFound:
            return True
        states = self._index.states(batch)
        pairs = ((state, getattr(counts, state)) for state in ("succeeded", "failed", "lost"))
        return sum(states.values()) == counts.total and all(
            states.get(state, 0) == number for state, number in pairs
        )

    def _keep_small(self) -> None:
        tracked = self._index.tracked()
        if self._index.num_bytes <= self._max_bytes:
            self.is_full = False
        elif len(tracked) > 1:
            self._index.forget(tracked[-1])
        else:
            self.is_full = True

    def _crawl(self, batch: str) -> Iterator[None]:
        """Copy all files of a batch, a page at a time."""
        crawl, cursor = self._index.begin_crawl(batch), "0"
        scripts = Scripts(self._connection)
        while True:
            began = time.monotonic()
            with server_errors(self._connection):
                answer: list[Any] = scripts.run(
                    "survey", batch=batch, cursor=cursor, count=_PAGE, by_records=True
                )
            self._pace.note(time.monotonic() - began)
            cursor, names, records = answer[0].decode(), *map(_texts, answer[1:])
            self._index.put(batch, self._files(names, records), crawl)
            if cursor == "0":
                break
            yield
        self._index.end_crawl(batch, crawl)

    def _files(self, names: list[str], records: list[str]) -> Iterator[IndexedFile]:
        odd = []
        for name, job_id, record in zip(names[0::2], names[1::2], records, strict=True):
            if record in _UNENDED:
                yield IndexedFile(name, job_id, "open")
            elif file := _recorded(name, job_id, record):
                yield file
            else:
                odd.append((name, job_id))
        for view in view_files(self._connection, odd):
            state = view.state if view.is_done else "open"
            yield IndexedFile(
                *(view.name, view.job_id, state, view.code),
                num_flagged=view.num_flagged,
                audio_s=view.audio_s,
                worker=view.worker,
                ended_s=-1.0 if view.ended_at_s is None else view.ended_at_s,
            )

    def _fetch(self, jobs: list[tuple[str, float]]) -> None:
        began = time.monotonic()
        results = list(read_results(self._connection, [job_id for job_id, _ in jobs]))
        # Most of that is our own reading of JSON; the server only hands it out.
        self._pace.note((time.monotonic() - began) / 10)
        for (job_id, ended_s), result in zip(jobs, results, strict=True):
            if isinstance(result, Transcript):
                self._index.put_text(job_id, ended_s, result.text, _described(result))
            else:
                # Expired: asked once, not again and again.
                self._index.put_text(job_id, ended_s, "")


def run_step(indexer: Indexer) -> bool:
    """Do a step; what goes wrong with the server or the disk is left to the next one."""
    try:
        return indexer.step()
    except (ScribefarmError, redis.RedisError, sqlite3.Error) as error:
        _log.warning("web_index_behind: %r", str(error))
        return False


def flags_of(result: Transcript) -> tuple[str, ...]:
    """Return what is flagged of a recording and of its segments, each once."""
    found = [*result.flags, *(flag for segment in result.segments for flag in segment.flags)]
    return tuple(dict.fromkeys(found))


def _described(result: Transcript) -> IndexedFile:
    return IndexedFile(
        *("", result.job_id, "succeeded"),
        flags=flags_of(result),
        num_flagged=sum(bool(segment.flags) for segment in result.segments),
        audio_s=result.audio.duration_s,
        language=result.language,
    )


def _recorded(name: str, job_id: str, record: str) -> IndexedFile | None:
    """Return what a record of `lua/ended.lua` says of a file; None if it is none."""
    label, is_record, numbers = record.partition("\n")
    if not is_record:
        return None
    try:
        ended = EndedFiles.parse(label, [(name, job_id, numbers)])
    except ValueError:
        return None
    return IndexedFile(
        *(name, job_id, ended.label.state, ended.label.code),
        flags=tuple(ended.label.flags.split(",")) if ended.label.flags else (),
        num_flagged=int(ended.num_flagged[0]),
        audio_s=ended.audio_s[0],
        language=ended.label.language,
        worker=ended.label.worker,
        ended_s=ended.ends[0],
    )


def _texts(document: bytes) -> list[str]:
    # Lua's empty list is an object of JSON; bytes that are no UTF-8 are shown as escapes.
    texts = json.loads(document.decode(errors="surrogateescape"))
    return [
        text.encode(errors="surrogateescape").decode(errors="backslashreplace") for text in texts
    ]
