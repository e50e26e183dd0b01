"""How many rows and requests are computed at once: arithmetic over a model family's memory needs."""

from dataclasses import dataclass, replace

from producer.errors import OutOfRange
from worker.engine.device_policy import DevicePolicy

ROWS_PER_BATCHED_REQUEST = 8
# Rows that a window in every slot may have, if there is memory for them: the reference's command
# follows five beams, and draws as many samples.
ROWS_PER_SLOT = 5


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
    """

    limit_bytes: int
    needs: MemoryNeeds
    slots: int
    batch_size: int
    more_rows: int = 0

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

    def __str__(self) -> str:
        return (
            f"weights {_gb(self.needs.weights_bytes)}"
            f" + 2 x ({self.slots} windows x {_gb(self.needs.window_bytes)}"
            f" + {self.rows} rows x {_gb(self.needs.row_bytes)})"
            f" + encoding {self.batch_size} x {_gb(self.needs.request_bytes)}"
            f" = {_gb(self.needed_bytes)} of {_gb(self.limit_bytes)}"
        )


def plan_memory(
    needs: MemoryNeeds, limit_bytes: int, slots: int | str, policy: DevicePolicy
) -> MemoryPlan:
    """Choose how many windows and rows are stepped together.

    Rows come last: as many as fit beside the windows, up to `ROWS_PER_SLOT` for each.

    Args:
        needs: The model's.
        limit_bytes: What may be used.
        slots: Windows asked for; `auto` takes the largest power of two that fits.
        policy: How much is worth having at once on this device.

    Raises:
        OutOfRange: the slots asked for do not fit, or not even one does; the message shows the
            arithmetic.
    """
    if isinstance(slots, int):
        plan = _plan(needs, limit_bytes, slots, policy)
        if plan.needed_bytes > limit_bytes:
            raise OutOfRange("settings: worker.slots", f"must fit into memory: {plan}", slots)
        return _with_rows(plan)
    sizes = [1 << power for power in range(policy.most_slots.bit_length())]
    plans = [_plan(needs, limit_bytes, size, policy) for size in sizes]
    fitting = [plan for plan in plans if plan.needed_bytes <= limit_bytes]
    if not fitting:
        raise OutOfRange("settings: model.name", f"must fit into memory: {plans[0]}", limit_bytes)
    return _with_rows(fitting[-1])


def _with_rows(plan: MemoryPlan) -> MemoryPlan:
    """Return the plan with the rows that there is memory for."""
    wanted = (ROWS_PER_SLOT - 1) * plan.slots
    if plan.needs.row_bytes == 0:
        return plan
    room = (plan.limit_bytes - plan.needed_bytes) // (2 * plan.needs.row_bytes)
    return replace(plan, more_rows=min(wanted, room))


def _plan(needs: MemoryNeeds, limit_bytes: int, slots: int, policy: DevicePolicy) -> MemoryPlan:
    batch_size = min(policy.largest_batch, max(1, slots // ROWS_PER_BATCHED_REQUEST))
    return MemoryPlan(limit_bytes, needs, slots, batch_size)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
