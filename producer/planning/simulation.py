"""Plays a farm's nights in simulated time: who takes which recording when, and when all is done.

Each machine takes recordings in order as soon as it has a place, and works on all that it holds at
once. When its hours close it takes no more, and finishes what it holds. A machine with few recordings
is slower than a full one: with `c` of `slots` it reaches

    rate(c) = audio_s_per_s / (share + (1 - share) * slots / c)

where `share` of a full batch's time is the encoder's, which a batch does not shorten.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from producer.active_hours import is_active, next_change

# Of a full batch's time; the encoder's share of Whisper turbo on a Mac is larger, on a GPU smaller.
ENCODER_SHARE = 0.5
# Farther ahead nobody plans: a farm that is not done by then never will be.
HORIZON_S = 20 * 365.25 * 86_400
_FOREVER = float("inf")
_NOTHING_LEFT_S = 1e-6


@dataclass(frozen=True)
class Machine:
    """One worker.

    Attributes:
        audio_s_per_s: Seconds of audio that it does in a second, all its slots taken.
        slots: Recordings that it decodes at once.
        capacity: Recordings that it takes at once.
        hours: When it may work, such as `22:00-06:00`; None is always.
        timezone: Of the hours, an IANA name; None is this machine's.
    """

    audio_s_per_s: float
    slots: int = 16
    capacity: int = 16
    hours: str | None = None
    timezone: str | None = None

    def rate(self, num_held: int) -> float:
        """Return the seconds of audio a second of all that it holds together."""
        if not num_held:
            return 0.0
        waiting = (1 - ENCODER_SHARE) * self.slots / min(num_held, self.slots)
        return self.audio_s_per_s / (ENCODER_SHARE + waiting)


@dataclass(frozen=True)
class Recording:
    """A recording, or several of a batch that are played as one to save time.

    Attributes:
        audio_s: Seconds of audio, of all.
        batch: Number of its batch.
        pieces: Recordings that it stands for, one behind the other in one place.
    """

    audio_s: float
    batch: int = 0
    pieces: int = 1


@dataclass
class _Worker:
    """A machine at work; `position` is how far each recording has come that it has held so far.

    All that are held get on at one speed, so one number tells how far each is.
    """

    machine: Machine
    now_s: float
    is_open: bool
    changes_at_s: float
    position: float = 0.0
    # (position at which it ends, how many were taken before it, what).
    held: list[tuple[float, int, Recording]] = field(default_factory=list)
    num_taken: int = 0

    @property
    def speed(self) -> float:
        """How fast each held recording gets on."""
        if not self.held:
            return 0.0
        return self.machine.rate(len(self.held)) / len(self.held)

    @property
    def next_s(self) -> float:
        """When a recording ends, or the hours open or close."""
        if not self.speed:
            return self.changes_at_s
        ends_s = self.now_s + (self.held[0][0] - self.position) / self.speed
        return min(ends_s, self.changes_at_s)

    def advance(self, now_s: float) -> list[Recording]:
        """Work until `now_s`; return what was only bundled with what runs when the hours close."""
        self.position += self.speed * (now_s - self.now_s)
        self.now_s = now_s
        if now_s < self.changes_at_s:
            return []
        self.is_open, self.changes_at_s = _hours_at(self.machine, now_s)
        return [] if self.is_open else self._unbundled()

    def take(self, recording: Recording) -> None:
        """Begin another recording."""
        self.num_taken += 1
        heapq.heappush(self.held, (self.position + recording.audio_s, self.num_taken, recording))

    def _unbundled(self) -> list[Recording]:
        """Keep the recording of each bundle that runs, and return the others."""
        given_back, kept = [], []
        for end, number, recording in self.held:
            length_s = recording.audio_s / recording.pieces
            pieces = int((end - self.position) / length_s) if length_s else 0
            if pieces:
                given_back.append(Recording(pieces * length_s, recording.batch, pieces))
            kept.append((end - pieces * length_s, number, recording))
        heapq.heapify(kept)
        self.held = kept
        return given_back


def finish_times(
    machines: Sequence[Machine], recordings: Sequence[Recording], start_s: float
) -> dict[int, float]:
    """Return when the last recording of each batch is done, in seconds since the epoch.

    Infinite for a batch that is not done within `HORIZON_S`.

    Args:
        machines: The farm.
        recordings: In the order of the queue.
        start_s: When work may begin, seconds since the epoch.

    Raises:
        InvalidSettings: hours or a time zone that are none.
    """
    farm = _Farm(machines, recordings, start_s)
    while farm.num_left and farm.next_s - start_s <= HORIZON_S:
        farm.step()
    unfinished = farm.unfinished_batches()
    return {batch: _FOREVER if batch in unfinished else end for batch, end in farm.done.items()}


class _Farm:
    """All machines, what they have not taken yet, and when something next happens to whom."""

    def __init__(
        self, machines: Sequence[Machine], recordings: Sequence[Recording], start_s: float
    ) -> None:
        self.done = dict.fromkeys((each.batch for each in recordings), start_s)
        self.num_left = len(recordings)
        self._left = deque(recordings)
        self._workers = [_Worker(each, start_s, *_hours_at(each, start_s)) for each in machines]
        # (when, number, how often that machine was planned anew): older entries are passed over.
        self._agenda: list[tuple[float, int, int]] = []
        self._versions = [0] * len(machines)
        self._go_on(range(len(machines)))

    @property
    def next_s(self) -> float:
        """When something happens next: a recording ends, hours open or close."""
        while self._agenda and self._agenda[0][2] != self._versions[self._agenda[0][1]]:
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else _FOREVER

    def step(self) -> None:
        """Let it happen, and let whoever has room take more."""
        now_s, number, _ = heapq.heappop(self._agenda)
        worker = self._workers[number]
        given_back = worker.advance(now_s)
        while worker.held and worker.held[0][0] - worker.position <= _NOTHING_LEFT_S:
            self.done[heapq.heappop(worker.held)[2].batch] = now_s
            self.num_left -= 1
        touched = [number]
        if given_back:
            # Another machine may have nothing to do.
            self._left.extendleft(reversed(given_back))
            self.num_left += len(given_back)
            later = (other for other, each in enumerate(self._workers) if each.changes_at_s > now_s)
            touched = [other for other in later if not self._workers[other].advance(now_s)]
        self._go_on(touched)

    def unfinished_batches(self) -> set[int]:
        """Return the batches of what is left."""
        held = {each.batch for worker in self._workers for _, _, each in worker.held}
        return held | {each.batch for each in self._left}

    def _go_on(self, numbers: Iterable[int]) -> None:
        """Let machines take what they have places for, in turn, and plan their next moments."""
        touched = list(numbers)
        hungry = [each for each in (self._workers[number] for number in touched) if each.is_open]
        while hungry and self._left:
            hungry = [each for each in hungry if len(each.held) < each.machine.capacity]
            for worker, recording in zip(hungry, islice(self._left, len(hungry)), strict=False):
                worker.take(recording)
            for _ in range(min(len(hungry), len(self._left))):
                self._left.popleft()
        for number in touched:
            self._versions[number] += 1
            entry = (self._workers[number].next_s, number, self._versions[number])
            heapq.heappush(self._agenda, entry)


def _hours_at(machine: Machine, now_s: float) -> tuple[bool, float]:
    """Return whether the machine may work, and when that changes."""
    now = datetime.fromtimestamp(now_s, UTC)
    change = next_change(machine.hours, machine.timezone, now)
    changes_at_s = _FOREVER if change is None else change.timestamp()
    return is_active(machine.hours, machine.timezone, now), changes_at_s
