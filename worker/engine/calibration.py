"""Measure what a model's work takes on the device that is there, through the family's own parts.

```
encode:    1, 2, 4, ... windows together, until a window gets hardly cheaper
unhidden:  a row, with nothing under way while the host works
steps:     1, 2, 4, ... rows together, until a window gets hardly cheaper
```

A busy machine only ever makes work longer: of several runs the shortest counts, and what took longer
than a larger size was disturbed. One size without gain may be such a case: the next one tells, and
of rows is forgotten if it gains nothing either.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from producer.errors import OutOfMemory
from worker.engine.family import Rehearsal, Stepper
from worker.engine.requests import Rows
from worker.engine.times import MOST_SIZE, Bound, Points, Times, rising

# Half of it for the encoder. One window and two rows are measured, whatever they take.
BUDGET_S = 10.0
# Where kernels are compiled at their first run, those runs are not of the budget, but of this.
COMPILING_S = 60.0
# Twice as much at once has to gain this.
GAIN = 0.03
# A batch is not left before it is done: the engine's thread takes no audio and no cancellation
# meanwhile, and a Mac's display waits for its longest kernel, a hundredth of it (mlx#3267).
LONGEST_BATCH_S = 3.0
# A batch that would take so long is not measured to be sure that there is no more gain.
LONG_BATCH_S = 1.0
# Short runs are repeated for so long: other programs have the processor for some tens of ms.
REPEATS, REPEAT_S = 2, 0.2
LEAST_SIZES = 2
WARM_STEPS = 2
# A run is so many steps, or one where a step is as long as this.
TIMED_STEPS, LONG_STEP_S = 4, 0.25

Fits: TypeAlias = Callable[[int, int], bool]
"""Whether there is memory for so many slots and a batch of so many."""

MakeStepper: TypeAlias = Callable[[int, int], Stepper]

_KEYS = itertools.count()

Run: TypeAlias = Callable[[], tuple[float, bool]]
"""Does what is timed; returns how many seconds the host waited, and whether all of it was there."""


class Timer:
    """Times work, and keeps the budget.

    Args:
        clock: In seconds.
        compiles: Whether first runs compile kernels, and say nothing.
    """

    def __init__(self, clock: Callable[[], float], *, compiles: bool) -> None:
        self._clock, self.compiles = clock, compiles
        self._until = clock() + (COMPILING_S if compiles else float("inf"))
        self.left_s = BUDGET_S / 2
        """Of the budget, in seconds."""

    def begin_steps(self) -> None:
        """Go over to the other half of the budget, and what is left of the first."""
        self.left_s = max(0.0, self.left_s) + BUDGET_S / 2

    @property
    def is_cut_short(self) -> bool:
        """Return whether compiling took the time, which the next start will have."""
        return self._clock() > self._until

    def has_time(self, seconds: float = 0.0) -> bool:
        """Return whether more than so many seconds are left."""
        return self.left_s > seconds and not self.is_cut_short

    def warm_up(self, run: Callable[[], object]) -> float:
        """Run what is not measured, and return its seconds; it compiles if anything does."""
        started = self._clock()
        run()
        seconds = self._clock() - started
        if not self.compiles:
            self.left_s -= seconds
        return seconds

    def best(self, run: Run, prepare: Callable[[], object] = lambda: None) -> tuple[float, float]:
        """Return the seconds of the shortest run, and of the host's own work in one.

        Where kernels are compiled, a run that takes longer than the shortest may have waited for
        one, or for memory: it is of the budget for as long as the shortest.

        Args:
            run: What is measured; runs that were not complete count only if none was.
            prepare: Called before each run, and not measured.
        """
        runs: list[tuple[bool, float, float]] = []
        seconds = spent_s = 0.0
        while not runs or self._should_repeat(len(runs), seconds, spent_s):
            self.warm_up(prepare)
            started = self._clock()
            waited_s, is_complete = run()
            taken_s = self._clock() - started
            spent_s += taken_s
            runs.append((not is_complete, taken_s, max(0.0, taken_s - waited_s)))
            seconds = min(each for _, each, _ in runs) if self.compiles else taken_s
        self.left_s -= len(runs) * seconds if self.compiles else spent_s
        worst, seconds, _ = min(runs)
        return seconds, min(host_s for each, _, host_s in runs if each == worst)

    def _should_repeat(self, num_runs: int, seconds: float, spent_s: float) -> bool:
        """Return whether a run is worth another one; the first may have waited where things compile."""
        if num_runs < REPEATS and self.compiles:
            return not self.is_cut_short
        has_time = self.has_time(seconds + (0.0 if self.compiles else spent_s))
        return has_time and (num_runs < REPEATS or spent_s < REPEAT_S)


def measure(
    rehearsal: Rehearsal,
    fits: Fits,
    *,
    compiles: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Times, bool]:
    """Return what the device takes, and whether there was time for all that matters.

    It takes up to `BUDGET_S`, more where a single window or two rows do, and up to `COMPILING_S`
    where kernels are compiled.

    Args:
        rehearsal: The family's.
        fits: Nothing is tried that does not, but one slot and a batch of one.
        compiles: Whether the device compiles kernels at their first run.
        clock: In seconds.

    Raises:
        OutOfMemory: the device has no room for a single window.
    """
    timer = Timer(clock, compiles=compiles)
    encode_s = _measure_encoder(rehearsal, fits, timer)
    times = Times(encode_s, steps=rehearsal.steps, patience_steps=rehearsal.patience_steps)
    if rehearsal.stepper is not None:
        timer.begin_steps()
        times = _measure_steps(rehearsal, rehearsal.stepper, times, fits, timer)
    return times, not timer.is_cut_short


def _measure_encoder(rehearsal: Rehearsal, fits: Fits, timer: Timer) -> Points:
    """Return the seconds of batches, each of twice as many windows."""
    points: list[tuple[int, float]] = []
    size, expected_s = 1, 0.0
    while not points or _bound(size, timer, expected_s, is_room=fits(1, size)) is None:
        try:
            seconds = _encode_s(rehearsal, size, timer)
        except OutOfMemory:
            if not points:
                raise
            break
        points.append((size, seconds))
        size, expected_s = 2 * size, 2 * seconds
        shares = [each / at for at, each in points]
        has_stalled = not _gains(shares) and (expected_s > LONG_BATCH_S or not _gains(shares[:-1]))
        if has_stalled or expected_s > LONGEST_BATCH_S:
            break
    return rising(points)


def _encode_s(rehearsal: Rehearsal, size: int, timer: Timer) -> float:
    def run() -> tuple[float, bool]:
        rehearsal.encode(size)
        return 0.0, True

    if timer.compiles:
        timer.warm_up(run)
    seconds, _ = timer.best(run)
    return seconds


def _measure_steps(
    rehearsal: Rehearsal, make: MakeStepper, times: Times, fits: Fits, timer: Timer
) -> Times:
    """Return the times with those of steps, each of twice as many rows."""
    request = rehearsal.rows(*rehearsal.encode(1))
    unhidden_s, _ = _step_s(make(1, 0), request, 1, timer)
    encoding_s = min(seconds / size for size, seconds in times.encode_s)
    points: list[tuple[int, float]] = []
    hosts: list[float] = []
    shares: list[float] = []
    bound: Bound | None = None
    stepper = make(MOST_SIZE, 1)
    while bound is None:
        rows, left_s = 1 << len(points), timer.left_s
        try:
            seconds, host_s = _step_s(stepper, request, rows, timer)
        except OutOfMemory:
            if not points:
                raise
            bound = "memory"
            break
        points.append((rows, seconds))
        hosts.append(host_s)
        shares.append(encoding_s + times.steps * seconds / rows)
        expected_s = 2 * (left_s - timer.left_s) if len(points) >= LEAST_SIZES else 0.0
        bound = _bound(2 * rows, timer, expected_s, is_room=fits(2 * rows, 1))
        if not _gains(shares) and not _gains(shares[:-1]):
            bound = "gain"
            del points[-1], hosts[-1]
    return replace(
        times, step_s=rising(points), host_s=tuple(hosts), unhidden_s=unhidden_s, bound=bound
    )


def _step_s(stepper: Stepper, request: Rows[Any], rows: int, timer: Timer) -> tuple[float, float]:
    """Return the seconds of a step of so many rows, and of the host's own work in it."""

    def fill() -> None:
        missing = rows - stepper.num_active
        for _ in range(missing):
            stepper.add(next(_KEYS), request)
        for _ in range(WARM_STEPS if missing else 0):
            stepper.step()

    def run() -> tuple[float, bool]:
        waited_s = stepper.wait_s
        for _ in range(num_steps):
            stepper.step()
        is_complete = stepper.num_active == rows
        if not is_complete:
            stepper.reset()
        return stepper.wait_s - waited_s, is_complete

    num_steps = 1 if timer.warm_up(fill) > WARM_STEPS * LONG_STEP_S else TIMED_STEPS
    seconds, host_s = timer.best(run, fill)
    return seconds / num_steps, host_s / num_steps


def _bound(size: int, timer: Timer, expected_s: float, *, is_room: bool) -> Bound | None:
    """Return why a size is not measured; None if it is."""
    if size > MOST_SIZE:
        return "size"
    if not is_room:
        return "memory"
    return None if not expected_s or timer.has_time(expected_s) else "time"


def _gains(shares: Sequence[float]) -> bool:
    """Return whether the last size was worth it: a window costs less than with the one before."""
    return len(shares) < LEAST_SIZES or shares[-1] < (1 - GAIN) * shares[-2]
