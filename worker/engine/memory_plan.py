"""How many rows and requests are computed at once: arithmetic over a model family's memory needs."""

from dataclasses import dataclass

from producer.errors import OutOfRange
from worker.engine.device_policy import DevicePolicy

ROWS_PER_BATCHED_REQUEST = 8


@dataclass(frozen=True)
class MemoryNeeds:
    """What a loaded model takes, in bytes.

    Attributes:
        weights_bytes: All that stays in memory, whatever is computed.
        row_bytes: One row of the stepper: caches, masks, logits; 0 without a stepper.
        request_bytes: One request of the largest batched computation, while it runs.
    """

    weights_bytes: int
    row_bytes: int
    request_bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """How the device's memory is shared out; `str()` shows the arithmetic.

    Attributes:
        limit_bytes: What may be used.
        needs: The model's.
        slots: Rows that are stepped together.
        batch_size: Requests that are computed together.
    """

    limit_bytes: int
    needs: MemoryNeeds
    slots: int
    batch_size: int

    @property
    def needed_bytes(self) -> int:
        """Weights, rows twice (a batch that grows is copied), one batched computation."""
        return (
            self.needs.weights_bytes
            + 2 * self.slots * self.needs.row_bytes
            + self.batch_size * self.needs.request_bytes
        )

    def __str__(self) -> str:
        return (
            f"weights {_gb(self.needs.weights_bytes)}"
            f" + 2 x {self.slots} rows x {_gb(self.needs.row_bytes)}"
            f" + encoding {self.batch_size} x {_gb(self.needs.request_bytes)}"
            f" = {_gb(self.needed_bytes)} of {_gb(self.limit_bytes)}"
        )


def plan_memory(
    needs: MemoryNeeds, limit_bytes: int, slots: int | str, policy: DevicePolicy
) -> MemoryPlan:
    """Choose how many rows are stepped together.

    Args:
        needs: The model's.
        limit_bytes: What may be used.
        slots: Rows asked for; `auto` takes the largest power of two that fits.
        policy: How much is worth having at once on this device.

    Raises:
        OutOfRange: the slots asked for do not fit, or not even one does; the message shows the
            arithmetic.
    """
    if isinstance(slots, int):
        plan = _plan(needs, limit_bytes, slots, policy)
        if plan.needed_bytes > limit_bytes:
            raise OutOfRange("settings: worker.slots", f"must fit into memory: {plan}", slots)
        return plan
    sizes = [1 << power for power in range(policy.most_slots.bit_length())]
    plans = [_plan(needs, limit_bytes, size, policy) for size in sizes]
    fitting = [plan for plan in plans if plan.needed_bytes <= limit_bytes]
    if not fitting:
        raise OutOfRange("settings: model.name", f"must fit into memory: {plans[0]}", limit_bytes)
    return fitting[-1]


def _plan(needs: MemoryNeeds, limit_bytes: int, slots: int, policy: DevicePolicy) -> MemoryPlan:
    batch_size = min(policy.largest_batch, max(1, slots // ROWS_PER_BATCHED_REQUEST))
    return MemoryPlan(limit_bytes, needs, slots, batch_size)


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
