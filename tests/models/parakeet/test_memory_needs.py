"""What the 0.6b takes of a device's memory, and how many pieces are encoded at once."""

from dataclasses import replace

import pytest

from tests.stage.tiny_parakeets import large_config, tiny_config
from worker.engine.device_policy import ON_CUDA, ON_METAL
from worker.engine.memory_plan import plan_memory
from worker.models.parakeet.config import VadConfig
from worker.models.parakeet.family import pieces_together
from worker.models.parakeet.memory_needs import memory_needs

GB = 10**9
WEIGHTS = int(1.26 * GB)


def plan_of(config, limit_gb, policy):
    return plan_memory(memory_needs(config, WEIGHTS, 2), int(limit_gb * GB), "auto", policy)


@pytest.mark.parametrize("vad", [None, VadConfig(128, 5)])
def test_the_large_model_fits_into_the_smallest_mac(vad):
    """Two thirds of 8 GB, in float16, with all the rows that are worth having."""
    plan = plan_of(replace(large_config(), vad=vad), 5.3, ON_METAL)
    assert plan.slots == ON_METAL.most_slots
    assert plan.needed_bytes < 5.3 * GB


def test_a_head_needs_its_block_and_ctc_no_rows():
    """A block in which speech is looked for is computed alone, beside whatever else."""
    config = large_config()
    plain = memory_needs(config, WEIGHTS, 2)
    with_head = memory_needs(replace(config, vad=VadConfig(128, 5)), WEIGHTS, 2)
    assert with_head.weights_bytes > plain.weights_bytes + 3 * plain.request_bytes
    assert memory_needs(tiny_config(ctc=True), 0, 4).row_bytes == 0


def test_as_many_pieces_are_encoded_together_as_there_is_memory_for():
    """Four are the work of a Whisper window."""
    config = large_config()
    plan = plan_of(config, 80, ON_CUDA)
    assert pieces_together(plan) == 4 * plan.batch_size
    needs = plan.needs
    tight = replace(plan, limit_bytes=plan.needed_bytes + 3 * needs.request_bytes)
    assert pieces_together(tight) == plan.batch_size + 3
    assert pieces_together(replace(plan, limit_bytes=plan.needed_bytes)) == plan.batch_size
