"""What the 0.6b takes of a device's memory, and how many pieces are encoded at once."""

from dataclasses import replace

import pytest

from tests.stage.tiny_parakeets import large_config, tiny_config
from worker.engine.memory_plan import plan_memory
from worker.engine.times import Times
from worker.models.parakeet.config import VadConfig
from worker.models.parakeet.family import PATIENCE_STEPS, STEPS_PER_PIECE
from worker.models.parakeet.memory_needs import memory_needs

GB = 10**9
WEIGHTS = int(1.26 * GB)


# A device that encodes and steps much at once in hardly more time.
FAST = Times(
    encode_s=tuple((1 << n, 0.01 + 0.001 * n) for n in range(7)),
    step_s=tuple((1 << n, 0.02 + 0.001 * n) for n in range(9)),
    steps=STEPS_PER_PIECE,
    patience_steps=PATIENCE_STEPS,
)


def plan_of(config, limit_gb):
    return plan_memory(memory_needs(config, WEIGHTS, 2), int(limit_gb * GB), "auto", FAST)


@pytest.mark.parametrize("vad", [None, VadConfig(128, 5)])
def test_the_large_model_fits_into_the_smallest_mac(vad):
    """Two thirds of 8 GB, in float16, with more than sixteen rows."""
    plan = plan_of(replace(large_config(), vad=vad), 5.3)
    assert plan.slots >= 16
    assert plan.needed_bytes <= 5.3 * GB


def test_a_head_needs_its_block_and_ctc_no_rows():
    """A block in which speech is looked for is computed alone, beside whatever else."""
    config = large_config()
    plain = memory_needs(config, WEIGHTS, 2)
    with_head = memory_needs(replace(config, vad=VadConfig(128, 5)), WEIGHTS, 2)
    assert with_head.weights_bytes > plain.weights_bytes + 3 * plain.request_bytes
    assert memory_needs(tiny_config(ctc=True), 0, 4).row_bytes == 0


def test_where_all_layers_are_handed_over_at_once_all_that_they_make_counts():
    """On CUDA; rows are as ever."""
    plain, all_kept = (
        memory_needs(large_config(), WEIGHTS, 2, keeps_all=kept) for kept in (False, True)
    )
    assert 5 * plain.request_bytes < all_kept.request_bytes < 1.5 * GB
    assert all_kept.row_bytes == plain.row_bytes


def test_as_many_pieces_are_encoded_together_as_come_together_and_fit():
    """Those that rows leave behind within the patience; where memory is short, fewer."""
    wide = plan_of(large_config(), 80)
    assert (wide.slots, wide.batch_size) == (256, 64)
    tight = plan_of(large_config(), 5.3)
    assert 1 < tight.batch_size < wide.batch_size
