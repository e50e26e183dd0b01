"""What a Parakeet checkpoint takes of the device's memory."""

from worker.engine.memory_plan import MemoryNeeds
from worker.models.parakeet.config import Config
from worker.models.parakeet.cut import LONGEST_PIECE
from worker.models.parakeet.listening import BLOCK

# Copies of the widest activation that are alive at once: what a layer reads, makes and masks.
COPIES = 3
# Numbers that a layer makes of each of D: norms, projections, biases, gates and sums, besides the two
# of each feed-forward layer, which are of its width. On CUDA all of them are alive: all layers are
# handed over before the device is done with one.
LAYER_NUMBERS, FEED_FORWARD_NUMBERS = 23, 4
# Logits of a step, their exponentials, and the comparison that finds the largest.
STEP_COPIES = 4
_FLOAT32_BYTES = 4


def memory_needs(
    config: Config, weights_bytes: int, itemsize: int, *, keeps_all: bool = False
) -> MemoryNeeds:
    """Return the needs of a checkpoint.

    Args:
        config: Its sizes.
        weights_bytes: What its weights take.
        itemsize: Bytes of a number of the encoder.
        keeps_all: What all layers make is alive at once.
    """
    piece = _subsampling_bytes(config, LONGEST_PIECE, itemsize)
    frames = config.num_frames(LONGEST_PIECE)
    encoder = config.encoder
    wide = COPIES * frames * max(encoder.feed_forward_width, 2 * encoder.width) * itemsize
    # Scores by content and by position, and both together; positions reach both ways.
    scores = encoder.num_heads * frames * 4 * frames * itemsize
    # A block in which speech is looked for is four of the longest pieces, but one at a time.
    block = _subsampling_bytes(config, BLOCK, itemsize) if config.vad is not None else 0
    made = LAYER_NUMBERS * encoder.width + FEED_FORWARD_NUMBERS * encoder.feed_forward_width
    layers = encoder.num_layers * (frames * made * itemsize + scores)
    request = piece + layers if keeps_all else max(piece, wide + scores)
    return MemoryNeeds(weights_bytes + block, _row_bytes(config, frames), request)


def _subsampling_bytes(config: Config, num_samples: int, itemsize: int) -> int:
    """Return what the first strided convolution and its neighbours take: the widest of all."""
    encoder = config.encoder
    frames = -(-config.num_mel_frames(num_samples) // 2)
    rows = num_samples * _FLOAT32_BYTES * config.features.n_fft // config.features.hop_length
    widest = frames * -(-encoder.n_mels // 2) * encoder.subsampling_channels * itemsize
    return COPIES * widest + rows


def _row_bytes(config: Config, frames: int) -> int:
    """Return what a row of the stepper takes; 0 for a model without one."""
    transducer = config.transducer
    if transducer is None:
        return 0
    states = frames * transducer.joint_width
    recurrent = 2 * transducer.predictor_layers * transducer.predictor_width
    logits = STEP_COPIES * (config.num_labels + 1 + len(transducer.durations))
    return _FLOAT32_BYTES * (states + recurrent + logits + transducer.joint_width)
