"""Batched requests that wait for company: which of them are computed together, and when."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from worker.engine.family import Computation
from worker.engine.requests import Batched
from worker.engine.track import Track

# Times the patience, while other batches of the type are under way.
MORE_PATIENCE = 8

Asked: TypeAlias = tuple[Track, Batched[Any]]
"""A request, and the recording that waits for its reply."""


@dataclass
class Waiting:
    """The requests of one type that wait to be computed together.

    Attributes:
        computation: What they wait for.
        batch_size: Most at once; halved when the device had no room.
    """

    computation: Computation
    batch_size: int
    _queues: dict[Hashable, deque[Asked]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._queues.values()))

    def add(self, asked: Asked) -> None:
        """Let a request wait behind its like."""
        self._queue(asked).append(asked)

    def put_back(self, batch: list[Asked]) -> None:
        """Let requests that were taken wait again, before all others of theirs."""
        for asked in reversed(batch):
            self._queue(asked).appendleft(asked)

    def count_turn(self) -> None:
        """Take note that all that wait have waited for one step more."""
        for queue in self._queues.values():
            for track, _ in queue:
                track.waited += 1

    def take_due(self, *, device_is_idle: bool, others_are_under_way: bool = False) -> list[Asked]:
        """Remove and return a batch; nothing unless one is full, has waited, or the device is idle.

        While others of the type are under way, one that is not full waits much longer: it fills up.
        Of several the one whose first request has waited longest, so that no kind waits for ever. A
        batch is a power of two: what a device must find out about each shape it does only for few
        (cuDNN 0.19 s, H200).
        """
        patience = -1 if device_is_idle else self.computation.patience_steps
        if others_are_under_way:
            patience *= MORE_PATIENCE
        due = [
            queue
            for queue in self._queues.values()
            if len(queue) >= self.batch_size or (queue and _waited(queue) > patience)
        ]
        if not due:
            return []
        queue = max(due, key=_waited)
        most = min(self.batch_size, len(queue))
        return [queue.popleft() for _ in range(1 << (most.bit_length() - 1))]

    def drop(self, track: Track) -> None:
        """Forget a recording's request."""
        for kind, queue in self._queues.items():
            self._queues[kind] = deque(asked for asked in queue if asked[0] is not track)

    def _queue(self, asked: Asked) -> deque[Asked]:
        _, request = asked
        return self._queues.setdefault(self.computation.kind_of(request), deque())


def _waited(queue: deque[Asked]) -> int:
    track, _ = queue[0]
    return track.waited
