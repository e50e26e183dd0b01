"""The batched requests of all recordings: which wait, which are under way, whose replies are next."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from producer.errors import DeviceLost, OutOfMemory, ScribefarmError
from worker.engine.family import Family, Parts, Replies
from worker.engine.requests import Batched
from worker.engine.stats import EngineStats
from worker.engine.track import Track
from worker.engine.waiting import Asked, Waiting


class Recordings(Protocol):
    """What becomes of a recording: `worker.engine.schedule.Schedule`."""

    def is_held(self, track: Track) -> bool:
        """Return whether it has not left."""

    def advance(self, track: Track, reply: object = None) -> None:
        """Send it what it waited for; it may ask for something else."""

    def fail(self, track: Track, error: ScribefarmError) -> None:
        """Let it leave."""


@dataclass(frozen=True)
class UnderWay:
    """A batch that is handed over part by part."""

    waiting: Waiting
    batch: list[Asked]
    parts: Parts


@dataclass(frozen=True)
class Unread:
    """A batch that was handed over, and what waits for its replies."""

    waiting: Waiting
    batch: list[Asked]
    read: Callable[[], Any]


class Batches:
    """Gives the device the requests that are computed together, and the recordings their replies.

    Args:
        family: Pinned.
        recordings: Who asked.
        stats: Counted up.

    Attributes:
        share_handed_over: What the device was given by the last `hand_over` of a batch that had
            waited for company.
    """

    def __init__(self, family: Family, recordings: Recordings, stats: EngineStats) -> None:
        self._stepper = family.stepper
        self._recordings = recordings
        self._stats = stats
        self._waiting = {
            kind: Waiting(computation, computation.batch_size)
            for kind, computation in family.computations.items()
        }
        self._under_way: list[UnderWay] = []
        self._unread: list[Unread] = []
        self.share_handed_over = 0.0

    @property
    def are_done(self) -> bool:
        """Return whether nothing waits and nothing is under way."""
        return not (any(self._waiting.values()) or self._under_way or self._unread)

    def add(self, track: Track, request: Batched[Any]) -> None:
        """Let a request wait for company."""
        self._waiting[type(request)].add((track, request))

    def drop(self, track: Track) -> None:
        """Forget a recording's request, unless it is under way."""
        for waiting in self._waiting.values():
            waiting.drop(track)

    def hand_over(self) -> None:
        """Go on with the batches that are under way by a part each, and start those that are due.

        Where no row is stepped between, they are handed over whole.
        """
        self.share_handed_over = 0.0
        self._go_on_with_all()
        for waiting in self._waiting.values():
            self._start_due(waiting)
        while self._under_way and self._has_no_rows():
            self._go_on_with_all()

    def read_replies(self) -> None:
        """Read the replies of batches that were handed over before the step that was just made."""
        unread, self._unread = self._unread, []
        for each in unread:
            try:
                replies = each.read()
            except OutOfMemory as error:
                self._try_fewer(each.waiting, each.batch, error)
            except DeviceLost:
                raise
            except ScribefarmError as error:
                for track, _ in each.batch:
                    self._recordings.fail(track, error)
            else:
                self._send(each.batch, replies)

    def _has_no_rows(self) -> bool:
        return self._stepper is None or self._stepper.num_active == 0

    def _start_due(self, waiting: Waiting) -> None:
        """Start what is due of one type; of a type that waits for full batches, one a turn."""
        waiting.count_turn()
        is_patient = waiting.computation.patience_steps > 0
        while batch := waiting.take_due(
            device_is_idle=self._has_no_rows(), others_are_under_way=self._are_under_way(waiting)
        ):
            if not self._start(waiting, batch) or is_patient:
                return

    def _are_under_way(self, waiting: Waiting) -> bool:
        return any(each.waiting is waiting for each in self._under_way)

    def _start(self, waiting: Waiting, batch: list[Asked]) -> bool:
        """Start one batch; False if the device had no room for it."""
        try:
            started = waiting.computation.start([request for _, request in batch])
        except OutOfMemory as error:
            self._try_fewer(waiting, batch, error)
            return False
        for track, _ in batch:
            track.waited = 0
        if waiting.computation.patience_steps:
            self._stats.batches += 1
            self._stats.batched_requests += len(batch)
        if isinstance(started, Generator):
            return self._go_on(UnderWay(waiting, batch, started))
        self._note_part(waiting)
        self._take_replies(waiting, batch, started)
        return True

    def _go_on_with_all(self) -> None:
        """Hand over a part of each batch that is under way."""
        under_way, self._under_way = self._under_way, []
        for each in under_way:
            self._go_on(each)

    def _go_on(self, each: UnderWay) -> bool:
        """Hand over a part of a batch; False if the device had no room for it."""
        try:
            next(each.parts)
        except StopIteration as ended:
            self._take_replies(each.waiting, each.batch, ended.value)
        except OutOfMemory as error:
            self._try_fewer(each.waiting, each.batch, error)
            return False
        else:
            self._note_part(each.waiting)
            self._under_way.append(each)
        return True

    def _note_part(self, waiting: Waiting) -> None:
        if waiting.computation.patience_steps:
            self.share_handed_over += 1 / waiting.computation.num_parts

    def _take_replies(self, waiting: Waiting, batch: list[Asked], replies: Replies) -> None:
        """Send the replies of a batch, or have them read after the next step was started."""
        if callable(replies):
            self._unread.append(Unread(waiting, batch, replies))
        else:
            self._send(batch, replies)

    def _send(self, batch: list[Asked], replies: Any) -> None:
        for (track, _), reply in zip(batch, replies, strict=True):
            self._recordings.advance(track, reply)

    def _try_fewer(self, waiting: Waiting, batch: list[Asked], error: OutOfMemory) -> None:
        """Compute half as many at once from now on, then step half the rows, then give up.

        Those who have not left meanwhile wait again.
        """
        waiting.put_back([asked for asked in batch if self._recordings.is_held(asked[0])])
        if waiting.batch_size > 1:
            waiting.batch_size //= 2
        elif self._stepper is None or not self._stepper.shrink():
            for track, _ in batch:
                self._recordings.fail(track, error)
