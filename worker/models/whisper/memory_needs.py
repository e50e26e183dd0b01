"""What a Whisper checkpoint takes of the device's memory."""

from worker.engine.memory_plan import MemoryNeeds
from worker.models.whisper.weights.parameters import Dimensions

# Copies of the widest activation (the MLP's 4 D) that are alive at once in an encoder block.
ENCODER_COPIES = 3
# Numbers that a block makes of each of D: queries, keys, values, what is read, two products of the
# width, the MLP's two of four times the width, two sums in float32, which count twice, and two norms.
# On CUDA all of them are alive: all blocks are handed over before the device is done with one.
BLOCK_NUMBERS = 3 + 1 + 2 + 2 * 4 + 2 * 2 + 2
STEP_BYTES_PER_ROW_AND_TOKEN = 4 * 6  # float32 logits and the masks and copies of a step


def memory_needs(
    dims: Dimensions,
    weights_bytes: int,
    itemsize: int,
    *,
    has_scores: bool = False,
    keeps_all: bool = False,
) -> MemoryNeeds:
    """Return the needs of a checkpoint.

    Args:
        dims: Its sizes.
        weights_bytes: What its weights take.
        itemsize: Bytes of a number.
        has_scores: The encoder's attention keeps a table of scores, as MLX's does on a CPU; fused
            attention (Metal, CUDA) and NumPy's in blocks do without.
        keeps_all: What all blocks of the encoder make is alive at once.
    """
    position = 2 * dims.n_text_state * dims.n_text_layer * itemsize
    step = STEP_BYTES_PER_ROW_AND_TOKEN * dims.n_vocab
    copies = BLOCK_NUMBERS * dims.n_audio_layer if keeps_all else ENCODER_COPIES * 4
    activations = copies * dims.n_audio_ctx * dims.n_audio_state * itemsize
    scores = 2 * dims.n_audio_head * dims.n_audio_ctx**2 * 4 if has_scores else 0
    # The vocabulary product's own float32 copy; counted also where a packed embedding has none.
    projection = 4 * dims.n_vocab * dims.n_text_state
    return MemoryNeeds(
        weights_bytes=weights_bytes + projection,
        row_bytes=dims.n_text_ctx * position + step,
        request_bytes=activations + scores,
        window_bytes=dims.n_audio_ctx * position,
    )
