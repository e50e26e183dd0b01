"""The stepper of transducers: rows of unrelated pieces are decoded together, greedily.

Rows join and leave between calls of `Network.advance`, each of which takes some steps of all rows on
the device (`greedy.py`). Its labels are read one call later, so that the device has work while the
host looks at them.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from producer.errors import NonFinite, ScribefarmError
from worker.device.backend import on_gpu, translated_errors
from worker.models.parakeet.network_base import Found, Network, RowState
from worker.models.parakeet.requests import Label, Recognize


@dataclass(eq=False)
class Row:
    """One piece's place.

    Attributes:
        labels: Found so far.
        is_held: Whether it has not left.
        is_finite: Whether every log-probability was a number.
    """

    key: Hashable
    request: Recognize
    labels: list[Label] = field(default_factory=list)
    is_held: bool = True
    is_finite: bool = True

    def outcome(self) -> tuple[Label, ...] | ScribefarmError:
        """Return the labels, or why there are none."""
        if self.is_finite:
            return tuple(self.labels)
        return NonFinite("recognize: log-probabilities", "must be finite", "NaN or infinity")


class TdtStepper:
    """A `worker.engine.family.Stepper` for `Recognize`; a step is one call of `Network.advance`.

    Args:
        network: With a transducer.
        slots: Most rows that are stepped together.
        calls_ahead: Calls that are on their way when one is read; None is 1 on a GPU, else 0.
    """

    def __init__(self, network: Network, slots: int, calls_ahead: int | None = None) -> None:
        self._network = network
        self._slots = slots
        self._calls_ahead = int(on_gpu()) if calls_ahead is None else calls_ahead
        self._waited_s = 0.0
        self.reset()

    @property
    def num_slots(self) -> int:
        """Most rows that are stepped together."""
        return self._slots

    @property
    def num_active(self) -> int:
        """Rows that the next step advances."""
        return len(self._places) - self._places.count(None)

    @property
    def num_wanted(self) -> int:
        """Rows that are stepped, wait for a slot, or have ended and were not returned."""
        return self.num_active + len(self._waiting) + len(self._ended)

    @property
    def wait_s(self) -> float:
        """Seconds that steps have waited for the device so far, or for NumPy in its place."""
        return self._waited_s + self._network.busy_s

    def reset(self) -> None:
        """Forget all rows."""
        self._state: RowState | None = None
        self._places: list[Row | None] = []
        self._waiting: deque[Row] = deque()
        self._unread: deque[tuple[list[Row | None], Callable[[], Found]]] = deque()
        self._ended: list[Row] = []

    def add(self, key: Hashable, request: Any) -> None:
        """Let a piece's row join as soon as there is a slot; `step` returns it by `key`."""
        self._waiting.append(Row(key, request))

    def step(self) -> list[tuple[Hashable, tuple[Label, ...] | ScribefarmError]]:
        """Start some steps of all rows, read earlier ones, and return the pieces that ended.

        A piece for which the network computed NaN ends as `NonFinite`.

        Raises:
            OutOfMemory: the device has no room; see `shrink`.
        """
        with translated_errors():
            self._join()
            if self.num_active:
                self._advance()
            while len(self._unread) > (self._calls_ahead if self.num_active else 0):
                self._read(*self._unread.popleft())
        # Kept until here: what ended before the device had no room is not lost.
        ended, self._ended = self._ended, []
        return [(row.key, row.outcome()) for row in ended]

    def drop(self, key: Hashable) -> None:
        """Let a piece's row leave, if it has one."""
        self._waiting = deque(row for row in self._waiting if row.key != key)
        self._ended = [row for row in self._ended if row.key != key]
        for row in self._places:
            if row is not None and row.key == key:
                self._leave(row)

    def shrink(self) -> bool:
        """Start all unfinished pieces anew with half the rows; False if one row is too many."""
        if self._slots == 1:
            return False
        self._slots //= 2
        unfinished = [*(row for row in self._places if row is not None), *self._waiting]
        ended = self._ended
        self.reset()
        self._ended = ended
        for row in unfinished:
            self.add(row.key, row.request)
        return True

    def _advance(self) -> None:
        assert self._state is not None  # noqa: S101 for mypy; there are rows
        started, busy, computed_s = time.perf_counter(), time.thread_time(), self._network.busy_s
        self._state, read = self._network.advance(self._state)
        self._unread.append((list(self._places), read))
        if self._network.busy_s == computed_s:
            # MLX lets the caller wait while the device has enough.
            self._waited_s += time.perf_counter() - started - (time.thread_time() - busy)

    def _read(self, places: list[Row | None], read: Callable[[], Found]) -> None:
        """Give a call's labels to its rows; those that ended with it leave."""
        started = time.perf_counter()
        found = read()
        self._waited_s += time.perf_counter() - started
        for place, label in _labels(found):
            row = places[place]
            if row is not None:
                row.labels.append(label)
                row.is_finite = row.is_finite and math.isfinite(label.logprob)
        for place in np.flatnonzero(found.has_ended).tolist():
            row = places[place]
            if row is not None and row.is_held:
                self._leave(row)
                self._ended.append(row)

    def _leave(self, row: Row) -> None:
        row.is_held = False
        self._places = [None if each is row else each for each in self._places]

    def _join(self) -> None:
        """Give waiting rows the free slots, and close up when half of the rows have left."""
        free = self._slots - self.num_active
        joining = list(islice(self._waiting, free))
        has_room = len(self._places) < 2 * max(self.num_active, 1)
        if not joining and (has_room or not self.num_active):
            return
        states = [] if self._state is None else [self._state]
        if joining:
            states.append(self._network.start_rows([row.request.encoded for row in joining]))
        before = len(self._places) if self._state is not None else 0
        taken = [place for place, row in enumerate(self._places) if row is not None]
        places = [*taken, *range(before, before + len(joining))]
        held = [row for row in self._places if row is not None]
        # A power of two of rows, so that few shapes are ever seen.
        empty = min(self._slots, 1 << (len(places) - 1).bit_length()) - len(places)
        self._state = self._network.move_rows(states, [*places, *[-1] * empty])
        self._places = [*held, *joining, *[None] * empty]
        # Only now: the device may have had no room.
        for _ in joining:
            self._waiting.popleft()


def _labels(found: Found) -> Iterator[tuple[int, Label]]:
    """Yield place and label of all that was found, in the order of the steps."""
    steps, places = np.nonzero(found.tokens >= 0)
    columns = (found.tokens, found.frames, found.durations, found.logprobs)
    values = (column[steps, places].tolist() for column in columns)
    yield from zip(places.tolist(), map(Label, *values), strict=True)
