"""What a Mac should give, computed from its chip and the model's sizes. Nothing here was measured by us.

A window costs its encoding, bound by multiplications, and its share of steps, bound by reading memory:

    seconds = operations of the encoder / speed + tokens x bytes of a step / (windows x bandwidth)

or by multiplications too, if those of many beams take longer. Host time, fallback windows and pauses are not in it: real figures are lower.
"""

from dataclasses import dataclass

from producer.job import Options
from worker.device.memory_limits import unified_limit_bytes
from worker.engine.memory_plan import MemoryNeeds, MemoryPlan, plan_memory
from worker.engine.times import Times
from worker.models.whisper.family import PATIENCE_STEPS, STEPS_PER_WINDOW
from worker.models.whisper.memory_needs import memory_needs
from worker.models.whisper.weights.parameters import Dimensions

WINDOW_S = 30.0
TOKENS_A_WINDOW = 100  # English speech
# The self-attention cache of a row as it stands on average, in tokens.
CACHED_TOKENS = 256
SHARE_OF_BANDWIDTH = 0.8
# Twice as many rows gain less than 3 % on any of the chips: a worker measures no more.
MOST_ROWS = 64
HALF, SINGLE = 2, 4  # bytes of a number
BEAMS = Options().beam_size or 1
GIB = 1 << 30
# Of the memory that macOS lets a GPU use: two thirds, and three quarters of large machines'.
LARGE_GIB, SHARE, SHARE_OF_LARGE = 36, 2 / 3, 3 / 4


@dataclass(frozen=True)
class Chip:
    """An Apple chip as the estimate sees it.

    Attributes:
        name: As macOS says it.
        gpu_cores: Of this variant.
        tflops: Float16 products as reached, not the peak: an M4's were measured with MLX by others
            (2.78 on a fanless one), the others' follow by cores; an M5's is a guess.
        gb_per_s: Bandwidth of the memory, by the vendor.
    """

    name: str
    gpu_cores: int
    tflops: float
    gb_per_s: float

    def __str__(self) -> str:
        return f"{self.name}, {self.gpu_cores} GPU cores"


CHIPS = (
    Chip("Apple M1", 8, 1.9, 68),
    Chip("Apple M4", 10, 3.0, 120),
    Chip("Apple M4 Pro", 16, 4.9, 273),
    Chip("Apple M4 Pro", 20, 6.2, 273),
    Chip("Apple M2 Ultra", 60, 15.4, 800),
    Chip("Apple M2 Ultra", 76, 19.2, 800),
    Chip("Apple M5", 10, 11.0, 153),
)

MODELS = {
    "large-v3-turbo": Dimensions(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 4),
    "large-v3": Dimensions(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 32),
}


def chip_of(name: str, gpu_cores: int | None) -> Chip | None:
    """Return the chip that macOS names; None for one without figures here."""
    alike = [chip for chip in CHIPS if chip.name == name]
    exact = [chip for chip in alike if chip.gpu_cores == gpu_cores]
    return next(iter(exact or alike), None)


def encode_s(chip: Chip, dims: Dimensions) -> float:
    """Return the seconds in which one window is encoded, the decoder's view of it included."""
    length, width = dims.n_audio_ctx, dims.n_audio_state
    layer = 24 * length * width**2 + 4 * length**2 * width
    convolutions = 2 * 3 * (2 * length * dims.n_mels * width + length * width**2)
    cross = 4 * length * width**2 * dims.n_text_layer
    return (dims.n_audio_layer * layer + convolutions + cross) / (chip.tflops * 1e12)


def step_s(chip: Chip, dims: Dimensions, windows: int, beams: int = 1) -> float:
    """Return the seconds of one decoder step; beams of a window read its audio once."""
    width, layers, rows = dims.n_text_state, dims.n_text_layer, windows * beams
    parameters, vocabulary = 14 * width**2 * layers, dims.n_vocab * width
    token = 2 * width * layers
    window = HALF * token * dims.n_audio_ctx
    row = HALF * token * CACHED_TOKENS + 24 * dims.n_vocab
    read = HALF * parameters + SINGLE * vocabulary + windows * window + rows * row
    attention = 2 * token * (dims.n_audio_ctx + CACHED_TOKENS)
    operations = rows * (2 * (parameters + vocabulary) + attention)
    return max(read / (SHARE_OF_BANDWIDTH * chip.gb_per_s * 1e9), operations / (chip.tflops * 1e12))


def times_real_time(chip: Chip, dims: Dimensions, windows: int, beams: int = 1) -> float:
    """Return the seconds of audio that are transcribed in a second, with all windows in use."""
    decode_s = TOKENS_A_WINDOW * step_s(chip, dims, windows, beams) / windows
    return WINDOW_S / (encode_s(chip, dims) + decode_s)


def mac_limit_bytes(memory_gib: int) -> int:
    """Return what a worker may use on a Mac with so much memory."""
    share = SHARE_OF_LARGE if memory_gib > LARGE_GIB else SHARE
    return unified_limit_bytes(memory_gib * GIB, int(share * memory_gib * GIB))


def needs_of(dims: Dimensions) -> MemoryNeeds:
    """Return what a model takes in float16, its weights counted from its sizes."""
    width, vocabulary = dims.n_text_state, dims.n_vocab
    layers = 12 * dims.n_audio_layer + 16 * dims.n_text_layer
    convolutions = 3 * (dims.n_mels * width + width**2)
    positions = (dims.n_audio_ctx + dims.n_text_ctx) * width
    weights = layers * width**2 + vocabulary * width + convolutions + positions
    return memory_needs(dims, HALF * weights, HALF)


def times_of(chip: Chip, dims: Dimensions) -> Times:
    """Return what a worker would measure there, without the host's work.

    A batch takes as long as its windows one by one, so that one window is a batch.
    """
    rows = [1 << power for power in range(MOST_ROWS.bit_length())]
    return Times(
        encode_s=((1, encode_s(chip, dims)),),
        step_s=tuple((number, step_s(chip, dims, number)) for number in rows),
        steps=STEPS_PER_WINDOW,
        patience_steps=PATIENCE_STEPS,
    )


def mac_plan(
    memory_gib: int, dims: Dimensions, chip: Chip | None, slots: int | str = "auto"
) -> MemoryPlan:
    """Return how a worker shares a Mac's memory out, by what the chip is computed to take.

    Raises:
        OutOfRange: the model or the slots do not fit.
    """
    times = times_of(chip, dims) if chip else None
    return plan_memory(needs_of(dims), mac_limit_bytes(memory_gib), slots, times)


# A machine of each kind that is sold with such a chip.
TABLE = (
    ("Apple M1", 8, 8),
    ("Apple M1", 8, 16),
    ("Apple M4", 10, 16),
    ("Apple M4", 10, 24),
    ("Apple M4 Pro", 16, 24),
    ("Apple M4 Pro", 20, 64),
    ("Apple M2 Ultra", 76, 64),
    ("Apple M5", 10, 16),
)


def table() -> str:
    """Return the table of `deploy/README.md`, in Markdown."""
    lines = [
        "| chip | memory | model | slots | rows | encoded together | memory planned | times real time | greedy |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, gpu_cores, memory_gib in TABLE:
        chip = chip_of(name, gpu_cores)
        for model, dims in MODELS.items():
            plan = mac_plan(memory_gib, dims, chip)
            lines.append(
                f"| {chip} | {memory_gib} GB | {model} | {plan.slots} | {plan.rows}"
                f" | {plan.batch_size}"
                f" | {plan.needed_bytes / 1e9:.1f} of {plan.limit_bytes / 1e9:.1f} GB"
                f" | {_speed(chip, dims, plan, BEAMS)} | {_speed(chip, dims, plan, 1)} |"
            )
    return "\n".join(lines) + "\n"


def _speed(chip: Chip | None, dims: Dimensions, plan: MemoryPlan, beams: int) -> str:
    windows = min(plan.slots, plan.rows // beams)
    return f"{times_real_time(chip, dims, windows, beams):.0f}" if chip else "unknown"
