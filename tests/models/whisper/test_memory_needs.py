"""What a Whisper checkpoint says that it takes."""

import mlx.core as mx

from tests.stage.tiny_models import tiny_dimensions
from worker.models.whisper.memory_needs import memory_needs
from worker.models.whisper.weights.parameters import Dimensions

DIMS = tiny_dimensions(width=384, heads=6, layers=4)
WEIGHTS_BYTES = 150_000_000


def test_the_arithmetic_counts_what_a_decode_really_holds():
    """tiny.en's keys and values: of 448 tokens a row, of 1,500 audio positions a window."""
    position_bytes = 2 * 384 * 4 * 4
    needs = memory_needs(DIMS, WEIGHTS_BYTES, mx.float32.size)
    tokens_bytes = 448 * position_bytes
    # Beside them a step's logits and masks over the vocabulary.
    assert tokens_bytes <= needs.row_bytes <= tokens_bytes + 25 * DIMS.n_vocab
    assert needs.window_bytes == 1500 * position_bytes
    assert needs.weights_bytes > WEIGHTS_BYTES


def test_where_all_layers_are_handed_over_at_once_all_that_they_make_counts():
    """turbo on CUDA: 2.2 GB of a window were seen (H200), of a residual stream in half."""
    turbo = Dimensions(128, 1500, 1280, 20, 32, 51_866, 448, 1280, 20, 4)
    needs = memory_needs(turbo, 1_600_000_000, mx.float16.size, keeps_all=True)
    assert 2.2e9 < needs.request_bytes < 2.6e9
    plain = memory_needs(turbo, 1_600_000_000, mx.float16.size)
    assert needs.request_bytes > 40 * plain.request_bytes
    assert (needs.row_bytes, needs.window_bytes) == (plain.row_bytes, plain.window_bytes)
