"""How many rows and requests are computed at once: arithmetic over a model family's memory needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from producer.errors import OutOfRange
from worker.engine.times import RECEIVE_S, UNMEASURED, Sizes, Times

# Rows that a window in every slot may have, if there is memory for them: the reference's command
# follows five beams, and draws as many samples.
ROWS_PER_SLOT = 5
# Windows of 30 s a second that threads of one Python read in all, and that a process reads, beside an
# engine whose thread is busy: 12 to 17, and 25 to 27 (tests/benchmarks/bench_feed.py).
WINDOWS_OF_THREADS = 10
WINDOWS_OF_A_PROCESS = 20
NOT_MEASURED = "the device was not measured for this model: scribefarm-worker calibrate"


@dataclass(frozen=True)
class MemoryNeeds:
    """What a loaded model takes, in bytes.

    Attributes:
        weights_bytes: All that stays in memory, whatever is computed.
        row_bytes: One row of the stepper: caches, masks, logits; 0 without a stepper.
        request_bytes: One request of the largest batched computation, while it runs.
        window_bytes: What all rows of one window share.
    """

    weights_bytes: int
    row_bytes: int
    request_bytes: int
    window_bytes: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """How the device's memory is shared out; `str()` shows the arithmetic.

    Attributes:
        limit_bytes: What may be used.
        needs: The model's.
        slots: Windows that are stepped together.
        batch_size: Requests that are computed together.
        more_rows: Rows beyond one a window: further samples and beams.
        steps_ahead: Steps that are on their way when one is read; they take no memory.
        why: What speaks for these sizes, in words.
        window_s: A window's share of the device's time with them; None where it was not measured.
        receiving_s: How long audio is taken while the device computes a batch.
    """

    limit_bytes: int
    needs: MemoryNeeds
    slots: int
    batch_size: int
    more_rows: int = 0
    steps_ahead: int = UNMEASURED.steps_ahead
    why: str = NOT_MEASURED
    window_s: float | None = None
    receiving_s: float = RECEIVE_S

    @property
    def rows(self) -> int:
        """Rows that are stepped together, of all windows."""
        return self.slots + self.more_rows

    @property
    def needed_bytes(self) -> int:
        """Weights, windows and rows twice (a batch that grows is copied), one batched computation."""
        return (
            self.needs.weights_bytes
            + 2 * (self.slots * self.needs.window_bytes + self.rows * self.needs.row_bytes)
            + self.batch_size * self.needs.request_bytes
        )

    @property
    def fits(self) -> bool:
        """Return whether it needs no more than it may."""
        return self.needed_bytes <= self.limit_bytes

    def advice_on_reading(self, processes: int) -> str | None:
        """Return what to set where the device is faster than recordings are read for it.

        Args:
            processes: That read; 0 for threads.
        """
        if self.window_s is None:
            return None
        windows_per_s = 1 / self.window_s
        read = processes * WINDOWS_OF_A_PROCESS if processes else WINDOWS_OF_THREADS
        if windows_per_s <= read:
            return None
        wanted = math.ceil(windows_per_s / WINDOWS_OF_A_PROCESS)
        readers = f"{processes} processes" if processes else "threads of one Python"
        return (
            f"the device takes {windows_per_s:.0f} windows of 30 s a second, and {readers} read some "
            f"{read}: set audio.processes = {wanted}, if there are as many processors"
        )

    def __str__(self) -> str:
        return (
            f"weights {_gb(self.needs.weights_bytes)}"
            f" + 2 x ({self.slots} windows x {_gb(self.needs.window_bytes)}"
            f" + {self.rows} rows x {_gb(self.needs.row_bytes)})"
            f" + encoding {self.batch_size} x {_gb(self.needs.request_bytes)}"
            f" = {_gb(self.needed_bytes)} of {_gb(self.limit_bytes)}"
        )


def plan_memory(
    needs: MemoryNeeds, limit_bytes: int, slots: int | str, times: Times | None = None
) -> MemoryPlan:
    """Choose how many windows and rows are stepped together.

    Rows come last: as many as fit beside the windows, up to `ROWS_PER_SLOT` for each.

    Args:
        needs: The model's.
        limit_bytes: What may be used.
        slots: Windows asked for; `auto` takes what the device's times say, as far as it fits, and
            leaves room for `ROWS_PER_SLOT` rows of one window, or for as many as there is any.
        times: The device's; without them `auto` is the largest power of two that fits, up to
            `UNMEASURED`.

    Raises:
        OutOfRange: the slots asked for do not fit, or not even one does; the message shows the
            arithmetic.
    """
    asked = slots if isinstance(slots, int) else None

    def chosen(rows: int) -> Sizes | None:
        """Return sizes with at least so many rows, or None where nothing fits."""

        def fits(number: int, batch_size: int) -> bool:
            return MemoryPlan(limit_bytes, needs, number, batch_size, max(0, rows - number)).fits

        return times.choose(fits, asked) if times else _unmeasured(fits, asked)

    widest = ROWS_PER_SLOT if asked is None else 1
    sizes = next(filter(None, map(chosen, range(widest, 0, -1))), None)
    if sizes is None:
        least = f"must fit into memory: {MemoryPlan(limit_bytes, needs, asked or 1, 1)}"
        if asked is None:
            raise OutOfRange("settings: model.name", least, limit_bytes)
        raise OutOfRange("settings: worker.slots", least, asked)
    plan = MemoryPlan(
        limit_bytes, needs, sizes.slots, sizes.batch_size, steps_ahead=sizes.steps_ahead
    )
    if times is not None:
        at = sizes.slots, sizes.batch_size
        plan = replace(
            plan,
            why=times.reason(*at),
            window_s=times.window_s(*at),
            receiving_s=times.receiving_s(sizes.batch_size),
        )
    return _with_rows(plan)


def _unmeasured(fits: Callable[[int, int], bool], asked: int | None) -> Sizes | None:
    """Return the slots asked for, or the most up to `UNMEASURED`; None if they do not fit."""
    powers = [1 << power for power in range(UNMEASURED.slots.bit_length())]
    wanted = powers if asked is None else [asked]
    fitting = [size for size in wanted if fits(size, UNMEASURED.batch_size)]
    return replace(UNMEASURED, slots=fitting[-1]) if fitting else None


def _with_rows(plan: MemoryPlan) -> MemoryPlan:
    """Return the plan with the rows that there is memory for."""
    wanted = (ROWS_PER_SLOT - 1) * plan.slots
    if plan.needs.row_bytes == 0:
        return plan
    room = (plan.limit_bytes - plan.needed_bytes) // (2 * plan.needs.row_bytes)
    return replace(plan, more_rows=min(wanted, room))


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
