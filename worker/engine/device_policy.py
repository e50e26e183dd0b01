"""How much is worth having at once on each kind of device. Numbers and their reasons; no device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DevicePolicy:
    """What the engine plans for one kind of device.

    Attributes:
        most_slots: More rows are not worth having, if there is memory for them.
        largest_batch: Most requests that are computed together.
        cache_share: Part of the memory limit up to which freed buffers are kept for reuse. Without
            a limit MLX would keep nearly all memory (agent-cli#620, stenoai#465: tens of GB after
            hours of varied lengths).
        steps_ahead: Steps that the device has to go on with while the host cuts, uploads and reads
            windows; a row that has ended costs as many for nothing.
    """

    most_slots: int
    largest_batch: int
    cache_share: float
    steps_ahead: int


# Larger batches are hardly faster to encode (H100: 186 to 190 windows/s at 8 to 32), but rows join
# in as large ones: the whole engine does 2,450 times real time with 8, 2,600 to 2,800 with 16, and
# 2,240 to 2,310 with 24 and 32, where the host waits for the device's queue to take a batch.
ON_CUDA = DevicePolicy(most_slots=128, largest_batch=16, cache_share=0.05, steps_ahead=4)
# A CPU's steps are long enough for the host's work beside them.
ON_CPU = DevicePolicy(most_slots=8, largest_batch=16, cache_share=0.05, steps_ahead=1)
# Computed from MLX's source and the chips' figures, not measured. The encoder is about nine tenths
# of the time on an M1 to M4, so 16 rows give 97 % of what 64 give (M5: 93 %). Two windows fill any GPU;
# larger batches only block the engine's thread for seconds (a command queue of MLX's holds ten
# buffers) and keep the display waiting. The cache must hold what an encoder layer frees (twenty
# activations), or each layer allocates anew: that churn has panicked M4 minis (mlx#3186). The ten
# buffers are two steps of the smaller models; more ahead would not be taken.
ON_METAL = DevicePolicy(most_slots=16, largest_batch=4, cache_share=0.15, steps_ahead=2)
