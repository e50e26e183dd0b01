"""Rows that decode together: their own parameters, their own randomness."""

import json
import math
import subprocess
import sys
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import LengthMismatch, OutOfRange, RankMismatch
from tests.stage.sampled_rows import (
    VOCAB,
    assert_same_bits,
    draw,
    log_softmax,
    process,
    random_logits,
    row_params,
    sample,
)
from worker.device.filters import Stage
from worker.device.sampling import BatchedSampling
from worker.device.sampling_params import GREEDY, SamplingParams
from worker.device.speech_model import check_logits
from worker.models.whisper.seeds import derive_seed

# --- Rows do not see each other ---


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(row_params, min_size=1, max_size=6),
    position=st.integers(0, 5),
    step=st.integers(0, 447),
    data=st.data(),
)
def test_a_row_decodes_the_same_alone_and_with_any_neighbours(rows, position, step, data):
    """Same seed and step, same logits to the bit and same token, at any index in any batch."""
    position %= len(rows)
    logits = random_logits(step, rows=len(rows))
    history = np.random.default_rng(step).integers(0, VOCAB, (len(rows), 12))
    lengths = data.draw(st.lists(st.integers(0, 12), min_size=len(rows), max_size=len(rows)))
    steps = data.draw(st.lists(st.integers(0, 447), min_size=len(rows), max_size=len(rows)))

    def decode(chosen):
        sampling = BatchedSampling([rows[row] for row in chosen], VOCAB)
        processed = process(
            sampling,
            mx.array(logits[chosen]),
            mx.array(history[chosen]),
            mx.array([lengths[row] for row in chosen]),
        )
        tokens = sample(sampling, log_softmax(processed), mx.array([steps[row] for row in chosen]))
        return np.array(processed), tokens.tolist()

    together, tokens = decode(list(range(len(rows))))
    alone, token = decode([position])
    assert_same_bits(together[position], alone[0])
    assert tokens[position] == token[0]


@settings(deadline=None, max_examples=40)
@given(neighbour=row_params, seed=st.integers(0, 1000))
def test_neutral_rows_keep_every_bit_and_take_the_most_likely_token(neighbour, seed):
    """A filter that a neighbour needs is as if it did not run; even the sign of zero stays."""
    logits = random_logits(seed, rows=2)
    logits[0, :4] = [-0.0, 0.0, -math.inf, 1e-40]
    sampling = BatchedSampling([GREEDY, neighbour], VOCAB)
    history = mx.array(np.random.default_rng(seed).integers(0, 4, (2, 9)))
    processed = process(sampling, mx.array(logits), history, mx.array([9, 9]))
    assert_same_bits(processed[0], logits[0])
    tokens = sample(sampling, processed, mx.array([seed, seed]))
    assert tokens[0].item() == int(np.argmax(logits[0]))


def test_filters_that_are_off_change_nothing_for_a_sampled_row():
    """A row with temperature alone draws the same token beside one that needs every filter."""
    plain = SamplingParams(temperature=1.0, seed=11)
    busy = SamplingParams(
        temperature=1.0, top_p=0.5, min_p=0.2, min_tokens_to_keep=3, top_k=4, xtc_probability=1.0
    )
    logprobs = log_softmax(random_logits(4, rows=2, vocab=500, scale=0.1))
    sampling = BatchedSampling([plain, busy], 500)
    for step in range(30):
        token = sample(sampling, logprobs, mx.array([step, step]))[0].item()
        assert token == draw(plain, logprobs[:1], step)


def test_steps_and_seeds_draw_differently():
    """No stream repeats: 1,024 uniform draws out of 2^14 collide about 31 times by chance."""
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(16)]
    sampling = BatchedSampling(params, 2**14)
    flat = mx.zeros((16, 2**14))
    drawn = [sample(sampling, flat, mx.full((16,), step)).tolist() for step in range(64)]
    assert len({token for tokens in drawn for token in tokens}) > 1024 - 31 - 5 * 6


def test_the_same_seed_draws_the_same_tokens_in_another_process():
    """The text does not depend on the run."""
    program = (
        "import mlx.core as mx; from worker.device.sampling import *;"
        "from worker.device.filters import sample_tokens;"
        "s = BatchedSampling([SamplingParams(temperature=1.0, seed=77)], 1000);"
        "draw = lambda i: sample_tokens(mx.zeros((1, 1000)), mx.array([i]), s.arrays, s.stages);"
        "print([draw(i).item() for i in range(5)])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    params = SamplingParams(temperature=1.0, seed=77)
    assert json.loads(run.stdout) == [draw(params, mx.zeros((1, 1000)), i) for i in range(5)]


def test_mlx_global_random_state_is_neither_read_nor_moved():
    """Whoever else draws in this process changes nothing here, and we change nothing for them."""
    params = SamplingParams(temperature=1.0, xtc_probability=0.5, seed=3)
    logprobs = log_softmax(random_logits(2))
    mx.random.seed(1)
    before = [np.array(state) for state in mx.random.state]
    first = draw(params, logprobs, 9)
    assert all(map(np.array_equal, before, [np.array(state) for state in mx.random.state]))
    mx.random.seed(2)
    assert draw(params, logprobs, 9) == first


# --- Rows come and go ---


def test_a_row_changes_its_parameters_without_touching_the_others():
    """A finished row leaves and another enters its slot."""
    logprobs = log_softmax(random_logits(8, rows=3))
    stay = SamplingParams(temperature=1.0, seed=1)
    enter = SamplingParams(temperature=0.7, top_k=3, seed=2, logit_bias={5: 2.0})
    sampling = BatchedSampling([stay, SamplingParams(temperature=1.5, top_p=0.4)], VOCAB, 3)
    steps = mx.array([4, 0, 0])
    before = sample(sampling, logprobs, steps).tolist()
    sampling.set_row(1, enter)
    after = sample(sampling, process(sampling, logprobs), steps).tolist()
    assert after[0] == before[0]
    biased = process(BatchedSampling([enter], VOCAB), logprobs[1:2])
    assert after[1] == draw(enter, biased, 0)
    assert after[2] == int(mx.argmax(logprobs[2]))


def test_stages_are_those_that_some_row_still_needs():
    """When the last row with a filter leaves, its cost leaves too."""
    sampling = BatchedSampling([SamplingParams(temperature=1.0, top_k=3)], VOCAB, 2)
    assert sampling.stages == Stage.TOP_K | Stage.DRAW
    sampling.set_row(1, SamplingParams(presence_penalty=0.5, top_p=0.5))
    assert sampling.stages == Stage.TOP_K | Stage.DRAW | Stage.PRESENCE
    sampling.clear_row(0)
    assert sampling.stages == Stage.PRESENCE
    sampling.clear_row(1)
    assert sampling.stages == Stage.NONE
    logits = mx.zeros((2, VOCAB))
    assert process(sampling, logits) is logits


def test_a_row_that_left_takes_its_bias_and_special_tokens_along():
    """The next row in the slot starts clean."""
    busy = SamplingParams(temperature=1.0, xtc_probability=1.0, xtc_special_tokens=(0,))
    sampling = BatchedSampling([SamplingParams(logit_bias={0: 9.0}), busy], VOCAB)
    sampling.set_row(0, SamplingParams(logit_bias={1: 1.0}))
    sampling.set_row(1, SamplingParams(temperature=1.0, xtc_probability=1.0))
    assert process(sampling, mx.zeros((2, VOCAB)))[0, :3].tolist() == [0.0, 1.0, 0.0]
    assert not sampling.arrays["xtc_special"].any().item()


def test_a_compiled_step_follows_rows_that_change():
    """The arrays are captured as inputs: new parameters need no new graph."""
    sampling = BatchedSampling([SamplingParams(temperature=1.0, seed=1)], VOCAB, 2)
    compiled = mx.compile(partial(sample, sampling), inputs=sampling.arrays)
    logprobs = log_softmax(random_logits(3, rows=2))
    for seed in range(5):
        sampling.set_row(0, SamplingParams(temperature=1.0, seed=seed))
        steps = mx.array([seed, 0])
        assert compiled(logprobs, steps).tolist() == sample(sampling, logprobs, steps).tolist()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_k=VOCAB),
        SamplingParams(min_tokens_to_keep=VOCAB + 1),
        SamplingParams(logit_bias={VOCAB: 1.0}),
        SamplingParams(xtc_special_tokens=(VOCAB,)),
    ],
)
def test_what_the_vocabulary_lacks_is_refused_when_the_row_is_set(params):
    """Only the model knows its vocabulary; the row before stays in force."""
    sampling = BatchedSampling([SamplingParams(temperature=1.0)], VOCAB)
    with pytest.raises(OutOfRange, match="sampling: "):
        sampling.set_row(0, params)
    assert sampling.stages == Stage.DRAW
    params.check_vocabulary(VOCAB + 1)


def test_rows_are_set_all_together_or_not_at_all():
    """One row that does not fit leaves the whole batch as it was."""
    sampling = BatchedSampling([GREEDY, GREEDY], VOCAB)
    with pytest.raises(OutOfRange, match="top_k"):
        sampling.set_rows({0: SamplingParams(temperature=1.0), 1: SamplingParams(top_k=VOCAB)})
    assert sampling.stages == Stage.NONE
    sampling.set_rows({0: SamplingParams(temperature=1.0), 1: SamplingParams(logit_bias={1: 1.0})})
    assert sampling.stages == Stage.DRAW | Stage.LOGIT_BIAS


def test_rows_and_shapes_that_do_not_exist_are_refused():
    """Wrong axes never broadcast into a wrong text."""
    sampling = BatchedSampling([SamplingParams(presence_penalty=1.0)], VOCAB)
    with pytest.raises(OutOfRange, match="row"):
        sampling.set_row(1, GREEDY)
    with pytest.raises(LengthMismatch, match="at most 1 rows"):
        BatchedSampling([GREEDY, GREEDY], VOCAB, 1)
    with pytest.raises(RankMismatch):
        check_logits(mx.zeros(VOCAB), sampling.num_rows, sampling.vocab_size)
    with pytest.raises(LengthMismatch):
        check_logits(mx.zeros((1, VOCAB + 1)), sampling.num_rows, sampling.vocab_size)


def test_derived_seeds_differ_for_every_path():
    """Windows, attempts and candidates of neighbouring seeds never share a stream."""
    seeds = {
        derive_seed(seed, window, attempt)
        for seed in range(20)
        for window in range(20)
        for attempt in range(20)
    }
    assert len(seeds) == 20**3
    assert derive_seed(1, 11) != derive_seed(11, 1)
    assert all(0 <= seed < 2**64 for seed in seeds)
