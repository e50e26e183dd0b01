"""How much device memory there is, and how many windows fit into it beside the model."""

import os
from dataclasses import dataclass

import mlx.core as mx

from producer.errors import OutOfRange
from producer.settings import WorkerSettings
from worker.models.whisper.weights.parameters import Dimensions

# Of the machine's memory where the device does not say what it recommends: the rest is the
# system's, the page cache's and other programs'.
SHARE_OF_RAM = 0.5
SHARE_OF_GPU = 0.85
# A 16 GB Mac mini keeps 6 GB for macOS and for decoding audio, and does not swap.
SHARE_OF_UNIFIED = 0.625
# The allocator keeps freed buffers for reuse up to this share; without a limit it would keep
# nearly all memory (agent-cli#620, stenoai#465: tens of GB after hours of varied lengths).
SHARE_FOR_CACHE = 0.05
MOST_SLOTS_ON_CPU = 8
MOST_SLOTS_ON_METAL = 64  # not measured on a Mac
MOST_SLOTS_ON_CUDA = 128
# Larger batches are hardly faster to encode (H100: 186 to 190 windows/s at 8 to 32), but rows join
# in as large ones: the whole engine does 2,450 times real time with 8, 2,600 to 2,800 with 16, and
# 2,240 to 2,310 with 24 and 32, where the host waits for the device's queue to take a batch.
MOST_ENCODED_AT_ONCE = 16
# Copies of the widest activation (the MLP's 4 D) that are alive at once in an encoder block.
ENCODER_COPIES = 3
STEP_BYTES_PER_ROW_AND_TOKEN = 4 * 6  # float32 logits and the masks and copies of a step


@dataclass(frozen=True)
class MemoryPlan:
    """What memory is for, in bytes; `str()` shows the arithmetic."""

    limit_bytes: int
    weights_bytes: int
    row_bytes: int
    encode_bytes: int
    slots: int
    encode_batch: int

    @property
    def needed_bytes(self) -> int:
        """Weights, decoder rows twice (a batch that grows is copied), one encoder batch."""
        return (
            self.weights_bytes
            + 2 * self.slots * self.row_bytes
            + self.encode_batch * self.encode_bytes
        )

    def __str__(self) -> str:
        return (
            f"weights {_gb(self.weights_bytes)} + 2 x {self.slots} rows x {_gb(self.row_bytes)}"
            f" + encoding {self.encode_batch} x {_gb(self.encode_bytes)}"
            f" = {_gb(self.needed_bytes)} of {_gb(self.limit_bytes)}"
        )


def plan_memory(
    dims: Dimensions,
    weights_bytes: int,
    itemsize: int,
    settings: WorkerSettings,
    *,
    has_scores: bool = False,
) -> MemoryPlan:
    """Choose how many windows are decoded together.

    Args:
        dims: Sizes of the model.
        weights_bytes: What its weights take.
        itemsize: Bytes of a number.
        settings: Slots and memory asked for.
        has_scores: The encoder's attention keeps a table of scores, as MLX's does on a CPU; fused
            attention (Metal, CUDA) and NumPy's in blocks do without.

    Raises:
        OutOfRange: the slots that the settings ask for do not fit, or not even one does; the
            message shows the arithmetic.
    """
    limit = settings.memory_limit_bytes or device_memory_bytes()
    asked = settings.slots
    if asked != "auto":
        plan = _plan(dims, weights_bytes, itemsize, limit, asked, has_scores=has_scores)
        if plan.needed_bytes > limit:
            raise OutOfRange("settings: worker.slots", f"must fit into memory: {plan}", asked)
        return plan
    plans = [
        _plan(dims, weights_bytes, itemsize, limit, slots, has_scores=has_scores)
        for slots in _sizes(_most_slots())
    ]
    fitting = [plan for plan in plans if plan.needed_bytes <= limit]
    if not fitting:
        raise OutOfRange("settings: model.name", f"must fit into memory: {plans[0]}", limit)
    return fitting[-1]


def apply_memory_plan(plan: MemoryPlan) -> None:
    """Set MLX's limits: total, buffer cache and, where memory can be wired, the working set."""
    mx.set_memory_limit(plan.limit_bytes)
    mx.set_cache_limit(int(plan.limit_bytes * SHARE_FOR_CACHE))
    if mx.metal.is_available():
        # Wired memory is never paged out: this is what pins the model between jobs.
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))


def device_memory_bytes() -> int:
    """Return what we may use: recommended working set, or a share of the device's memory."""
    info = mx.device_info()
    if "max_recommended_working_set_size" in info:
        recommended = int(info["max_recommended_working_set_size"])
        return min(recommended, int(SHARE_OF_UNIFIED * int(info["memory_size"])))
    if mx.default_device().type == mx.gpu:
        return int(SHARE_OF_GPU * int(info.get("total_memory") or info["memory_size"]))
    return int(SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _plan(
    dims: Dimensions, weights_bytes: int, itemsize: int, limit: int, slots: int, *, has_scores: bool
) -> MemoryPlan:
    positions = dims.n_text_ctx + dims.n_audio_ctx
    row = 2 * positions * dims.n_text_state * dims.n_text_layer * itemsize
    step = STEP_BYTES_PER_ROW_AND_TOKEN * dims.n_vocab
    activations = ENCODER_COPIES * 4 * dims.n_audio_ctx * dims.n_audio_state * itemsize
    scores = 2 * dims.n_audio_head * dims.n_audio_ctx**2 * 4 if has_scores else 0
    # The vocabulary product's own float32 copy; counted also where a packed embedding has none.
    weights_bytes += 4 * dims.n_vocab * dims.n_text_state
    encode_batch = min(MOST_ENCODED_AT_ONCE, max(1, slots // 8))
    return MemoryPlan(limit, weights_bytes, row + step, activations + scores, slots, encode_batch)


def _most_slots() -> int:
    """Return how many rows are worth having, if there is memory for them."""
    if mx.default_device().type == mx.cpu:
        return MOST_SLOTS_ON_CPU
    return MOST_SLOTS_ON_CUDA if mx.cuda.is_available() else MOST_SLOTS_ON_METAL


def _sizes(most: int) -> list[int]:
    """Return the batch sizes to choose from: powers of two up to `most`."""
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
