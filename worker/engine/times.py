"""What a device takes for a model's work, and how much at once follows from it: arithmetic.

A window's share of the device's time is that of its encoding and that of its steps:

    seconds = encode(batch) / batch + steps x step(slots) / slots

Both fall while batches and slots grow, ever more slowly; memory, and the time from a recording's
start to its text, only rise. So the smallest sizes are chosen that come near the least.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Field

# What the engine's thread may do beside a step, while the device has steps to go on with: take audio,
# let windows join, see to those that ended.
BESIDE_STEP_S = 0.005
# Audio is taken between two steps for so long and one block, at least; behind a part of a batch for half
# of its time.
RECEIVE_S = 0.001
RECEIVING_SHARE = 0.5
# Slots are as good as the best if a window takes so much longer with them; a batch costs only the
# time in which it holds the device.
TOLERANCE = 0.03
BATCH_TOLERANCE = 0.01
# Handing over a batch takes the host 15 to 30 ms, whatever its size (H200): shorter ones are enlarged
# up to this, if it costs the device nothing.
SHORT_BATCH_S = 0.1
# A window that has ended costs a step more for each that was under way: at most this share of its own.
MOST_SHARE_AHEAD = 0.05
# Steps that hide the host's work are this much shorter than those that wait for it; less is noise.
HIDDEN_SHARE = 0.05
# A device waits for the host where the host's own work is at least this much of a step.
HOST_BOUND_SHARE = 0.8
MOST_SIZE = 1024

Size: TypeAlias = Annotated[int, Field(ge=1, le=MOST_SIZE)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, lt=1e5, allow_inf_nan=False)]
HostSeconds: TypeAlias = Annotated[float, Field(ge=0, lt=1e5, allow_inf_nan=False)]
Bound: TypeAlias = Literal["gain", "memory", "time", "size"]
"""Why no larger size was measured: too little gain, no memory, no time, or the largest size."""

Points: TypeAlias = Annotated[tuple[tuple[Size, Seconds], ...], Field(max_length=32)]
"""Sizes, rising, and the seconds that each took."""


@dataclass(frozen=True)
class Sizes:
    """How much is computed at once.

    Attributes:
        slots: Windows that are stepped together.
        batch_size: Requests that are computed together.
        steps_ahead: Steps that are on their way when one is read.
    """

    slots: int
    batch_size: int
    steps_ahead: int


# Where nothing was measured: short commands on a CPU. Twice as many slots gain 3 to 10 % there, and a
# batch next to nothing (tests/benchmarks/RESULTS.md, 2026-11-29 23:38).
UNMEASURED = Sizes(slots=8, batch_size=1, steps_ahead=1)


@dataclass(frozen=True)
class Times:
    """What a model's work takes on a device, measured or computed.

    Attributes:
        encode_s: A batch of so many requests.
        step_s: A step of so many rows; empty for a family without a stepper.
        host_s: The engine's thread's own work in such a step.
        unhidden_s: A step of one row when the host waits for each before it starts the next.
        steps: That a typical window takes.
        patience_steps: That a request waits for others, at most.
        bound: Why no more rows were measured.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    encode_s: Annotated[Points, Field(min_length=1)]
    step_s: Points = ()
    host_s: Annotated[tuple[HostSeconds, ...], Field(max_length=32)] = ()
    unhidden_s: Seconds | None = None
    steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    patience_steps: Annotated[int, Field(ge=0, le=10_000)] = 0
    bound: Bound = "gain"

    def __post_init__(self) -> None:
        """Refuse what no measuring gives.

        Raises:
            ValueError: sizes that do not rise from 1, or steps without their number.
        """
        for points in filter(None, (self.encode_s, self.step_s)):
            sizes = [size for size, _ in points]
            if sizes[0] != 1 or sizes != sorted(set(sizes)):
                msg = f"sizes must rise from 1: {sizes}"
                raise ValueError(msg)
        if self.step_s and (not self.steps or len(self.host_s) not in {0, len(self.step_s)}):
            msg = f"steps need their number and the host's share: {self.steps}, {self.host_s}"
            raise ValueError(msg)

    def choose(self, fits: Callable[[int, int], bool], slots: int | None = None) -> Sizes | None:
        """Return the smallest slots that are as good as the best, and a batch; None if none fit.

        Args:
            fits: Whether there is memory for so many slots and such a batch.
            slots: Asked for; None leaves them open.
        """
        asked = self.slot_sizes() if slots is None else [slots]
        pairs = [
            (number, batch)
            for number in asked
            for batch, _ in self.encode_s
            if batch <= self.most_together(number) and fits(number, batch)
        ]
        if not pairs:
            return None
        best_s = min(self.window_s(*pair) for pair in pairs)
        enough = (pair for pair in pairs if self.window_s(*pair) <= (1 + TOLERANCE) * best_s)
        number, _ = min(enough)
        batch = self._batch(number, [batch for each, batch in pairs if each == number])
        return Sizes(number, batch, self.steps_ahead(number))

    def _batch(self, slots: int, batches: Sequence[int]) -> int:
        """Return the largest of the short batches that are as good as the best, else the smallest."""
        best_s = min(self.window_s(slots, batch) for batch in batches)
        enough_s = (1 + BATCH_TOLERANCE) * best_s
        enough = [batch for batch in batches if self.window_s(slots, batch) <= enough_s]
        short = [batch for batch in enough if _at(self.encode_s, batch) <= SHORT_BATCH_S]
        return max(short, default=min(enough))

    def slot_sizes(self) -> list[int]:
        """Return the slots to choose from: powers of two, and one and a half of them.

        Where time allowed for few rows only, a step's time goes on as it began.
        """
        if not self.step_s:
            return [size for size, _ in self.encode_s]
        most = self.step_s[-1][0]
        if self.bound == "time":
            most = max(most, UNMEASURED.slots)
        powers = [1 << power for power in range(most.bit_length())]
        return sorted({size for each in powers for size in (each, 3 * each // 2) if size <= most})

    def most_together(self, slots: int) -> int:
        """Return how many requests come together before the oldest has waited long enough.

        All recordings of a family without a stepper ask at once.
        """
        return 1 + self.patience_steps * slots // self.steps if self.step_s else slots

    def window_s(self, slots: int, batch: int) -> float:
        """Return a window's share of the device's time."""
        encoding_s = _at(self.encode_s, batch) / batch
        if not self.step_s:
            return encoding_s
        return encoding_s + self.steps * self.step_of(slots) / slots

    def receiving_s(self, batch: int) -> float:
        """Return how long the engine's thread may take audio behind a batch of so many."""
        batch_s = _at(self.encode_s, batch) if self.hides_host else 0.0
        return max(RECEIVE_S, RECEIVING_SHARE * batch_s)

    def step_of(self, rows: int) -> float:
        """Return the seconds of a step of so many rows."""
        return _at(self.step_s, rows)

    def host_of(self, rows: int) -> float:
        """Return the seconds of it that the engine's thread works itself."""
        sizes = [size for size, _ in self.step_s]
        return self.host_s[min(bisect_left(sizes, rows), len(sizes) - 1)] if self.host_s else 0.0

    @property
    def hides_host(self) -> bool:
        """Return whether the device goes on while the host works; NumPy in its place does not.

        A device that waits for the host takes as long either way, and goes on nevertheless.
        """
        if not self.step_s or self.unhidden_s is None:
            return True
        step_s = self.step_s[0][1]
        is_host_bound = self.host_of(1) >= HOST_BOUND_SHARE * step_s
        return is_host_bound or self.unhidden_s > (1 + HIDDEN_SHARE) * step_s

    def reason(self, slots: int, batch: int) -> str:
        """Say in words what the sizes give, beside the most that was measured."""
        each_s = self.window_s(slots, batch)
        encoded = f"encoded {batch} at once"
        if not self.step_s:
            return f"a window takes {_ms(each_s)}, {encoded}"
        most, _ = self.step_s[-1]
        least_s = min(self.window_s(most, size) for size, _ in self.encode_s)
        hides = "under" if self.hides_host else "beside"
        return (
            f"a window takes {_ms(each_s)} with {slots} slots, {encoded}; {most} rows a step, the "
            f"most measured, would make it {_ms(least_s)}; a step takes {_ms(self.step_of(slots))}, "
            f"and {_ms(self.host_of(slots))} of the host's work lie {hides} the device's"
        )

    def steps_ahead(self, slots: int) -> int:
        """Return the steps that keep the device at work while the host does something else."""
        if not self.step_s:
            return 1
        if not self.hides_host:
            return 0
        wanted = math.ceil((BESIDE_STEP_S + self.host_of(slots)) / self.step_of(slots))
        return max(1, min(wanted, int(MOST_SHARE_AHEAD * self.steps)))


def rising(points: Iterable[tuple[int, float]]) -> Points:
    """Return points of which none took longer than a larger one: it was disturbed."""
    kept: list[tuple[int, float]] = []
    for size, seconds in sorted(points, reverse=True):
        kept.append((size, min(seconds, kept[-1][1]) if kept else seconds))
    return tuple(reversed(kept))


def _at(points: Points, size: int) -> float:
    """Return the seconds of a size: straight lines between the points, and on from the last two."""
    sizes = [each for each, _ in points]
    place = min(max(1, bisect_left(sizes, size)), len(points) - 1)
    if len(points) == 1 or size <= sizes[0]:
        first, seconds = points[0]
        return seconds * max(1.0, size / first)
    (low, low_s), (high, high_s) = points[place - 1 : place + 1]
    return low_s + (high_s - low_s) * (size - low) / (high - low)


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
