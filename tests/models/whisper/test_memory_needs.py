"""What a Whisper checkpoint says that it takes."""

import mlx.core as mx

from tests.stage.tiny_models import tiny_dimensions
from worker.models.whisper.memory_needs import memory_needs

DIMS = tiny_dimensions(width=384, heads=6, layers=4)
WEIGHTS_BYTES = 150_000_000


def test_the_arithmetic_counts_what_a_decode_really_holds():
    """A row's cache of tiny.en: keys and values of 448 tokens and 1,500 audio positions."""
    cache_bytes = 2 * (448 + 1500) * 384 * 4 * 4
    needs = memory_needs(DIMS, WEIGHTS_BYTES, mx.float32.size)
    assert cache_bytes <= needs.row_bytes <= 1.2 * cache_bytes
    assert needs.weights_bytes > WEIGHTS_BYTES
