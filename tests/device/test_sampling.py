"""Rows that decode together: their own parameters, their own randomness, mlx-lm's arithmetic."""

import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm import sample_utils

from producer.errors import LengthMismatch, OutOfRange, RankMismatch
from worker.device import filters
from worker.device.filters import Stage
from worker.device.sampling import GREEDY, BatchedSampling, SamplingParams, pair_logit_bias
from worker.models.whisper.seeds import derive_seed

VOCAB = 64

token_ids = st.integers(0, VOCAB - 1)
magnitudes = st.floats(-5, 5, width=32).filter(lambda value: value == 0 or abs(value) > 1e-6)
row_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.2, 1.0, 1.7]),
    top_p=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    min_tokens_to_keep=st.integers(1, 5),
    top_k=st.sampled_from([0, 1, 7, VOCAB - 1]),
    xtc_probability=st.sampled_from([0.0, 0.5, 1.0]),
    xtc_threshold=st.sampled_from([0.0, 0.05, 0.5]),
    xtc_special_tokens=st.lists(token_ids, max_size=3).map(tuple),
    seed=st.integers(0, 2**64 - 1),
    logit_bias=st.dictionaries(token_ids, magnitudes, max_size=3),
    repetition_penalty=st.sampled_from([None, 0.0, 0.8, 1.0, 1.3]),
    repetition_context_size=st.integers(1, 30),
    presence_penalty=st.none() | magnitudes,
    presence_context_size=st.integers(1, 30),
    frequency_penalty=st.none() | magnitudes,
    frequency_context_size=st.integers(1, 30),
)


def random_logits(seed, rows=1, vocab=VOCAB, scale=3.0):
    return (np.random.default_rng(seed).standard_normal((rows, vocab)) * scale).astype(np.float32)


def log_softmax(logits):
    logits = mx.array(logits)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def column(value):
    return mx.array([[value]])


def assert_same_bits(actual, expected):
    actual, expected = np.array(actual), np.array(expected)
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


def draw(params, logprobs, step):
    """Sample one row on its own."""
    sampling = BatchedSampling([params], logprobs.shape[1])
    return sampling.sample(logprobs, mx.array([step])).item()


# --- Agreement with mlx-lm ---


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), top_p=st.sampled_from([0.01, 0.3, 0.9, 0.99]))
def test_top_p_keeps_the_tokens_that_mlx_lm_keeps(seed, top_p):
    """The nucleus is the same set, with the same values."""
    logprobs = log_softmax(random_logits(seed))
    assert_same_bits(
        filters._top_p(logprobs, column(top_p)),
        sample_utils.apply_top_p(logprobs, top_p),
    )


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    min_p=st.sampled_from([0.001, 0.1, 1.0]),
    keep=st.sampled_from([1, 2, VOCAB]),
)
def test_min_p_keeps_the_tokens_that_mlx_lm_keeps(seed, min_p, keep):
    """Also when some tokens may not be dropped, up to all of them."""
    logprobs = log_softmax(random_logits(seed))
    assert_same_bits(
        filters._min_p(logprobs, column(math.log(min_p)), column(keep)),
        sample_utils.apply_min_p(logprobs, min_p, keep),
    )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), top_k=st.integers(1, VOCAB - 1))
def test_top_k_keeps_the_tokens_that_mlx_lm_keeps(seed, top_k):
    """Without equal values there is one right answer."""
    logprobs = log_softmax(random_logits(seed))
    kept = filters._most_likely(logprobs, column(top_k))
    assert_same_bits(mx.where(kept, logprobs, -mx.inf), sample_utils.apply_top_k(logprobs, top_k))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    threshold=st.sampled_from([0.0, 0.05, 0.1, 0.5]),
    special=st.sampled_from([[], [0, 63], list(range(0, 64, 2))]),
)
def test_xtc_drops_the_tokens_that_mlx_lm_drops(seed, threshold, special):
    """At probability 1 its coin always falls, so both can be compared."""
    logprobs = log_softmax(random_logits(seed))
    is_special = np.zeros((1, VOCAB), bool)
    is_special[0, special] = True
    arrays = {
        "xtc_threshold": column(threshold),
        "xtc_special": mx.array(is_special),
        "xtc_probability": column(1.0),
    }
    assert_same_bits(
        filters._xtc(logprobs, column(0.5), arrays),
        sample_utils.apply_xtc(logprobs, 1.0, threshold, special),
    )


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    params=row_params,
    history=st.lists(token_ids, min_size=1, max_size=40),
)
def test_bias_and_penalties_agree_with_mlx_lm(seed, params, history):
    """The whole chain, in the same order, with each penalty's own window of history."""
    logits = random_logits(seed)
    expected = mx.array(logits)
    for processor in sample_utils.make_logits_processors(
        params.logit_bias,
        params.repetition_penalty,
        params.repetition_context_size,
        params.presence_penalty,
        params.presence_context_size,
        params.frequency_penalty,
        params.frequency_context_size,
    ):
        expected = processor(mx.array(history), expected)
    padded = mx.array([[*history, 3, 3, 3]])
    sampling = BatchedSampling([params], VOCAB)
    actual = sampling.process(mx.array(logits), padded, mx.array([len(history)]))
    np.testing.assert_allclose(np.array(actual), np.array(expected), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(params=row_params, step=st.integers(0, 447))
def test_the_draw_is_mlx_lms_categorical_over_the_filters_in_its_order(params, step):
    """A draw is the argmax over mlx-lm's filtered log-probabilities and the row's Gumbel noise.

    XTC's coin is fixed. `mx.random.categorical` draws otherwise, so it has no common token to
    compare; that the noise gives the right distribution is tested on its own.
    """
    params = replace(params, xtc_probability=1.0 if params.xtc_probability else 0.0)
    logprobs = log_softmax(random_logits(step))
    filtered = logprobs
    if 0 < params.top_p < 1:
        filtered = sample_utils.apply_top_p(filtered, params.top_p)
    if params.min_p:
        filtered = sample_utils.apply_min_p(filtered, params.min_p, params.min_tokens_to_keep)
    if params.xtc_probability:
        special = list(params.xtc_special_tokens)
        filtered = sample_utils.apply_xtc(filtered, 1.0, params.xtc_threshold, special)
    if params.top_k and int((filtered > -mx.inf).sum()) >= params.top_k:
        filtered = sample_utils.apply_top_k(filtered, params.top_k)
    if params.is_greedy:
        expected = mx.argmax(logprobs, axis=-1)
    else:
        sampling = BatchedSampling([params], VOCAB)
        key = filters._step_keys(sampling.arrays["stream_keys"], mx.array([step]))[0, 0]
        noise = mx.random.gumbel((1, VOCAB), key=key)
        expected = mx.argmax(filtered / params.temperature + noise, axis=-1)
    assert draw(params, logprobs, step) == expected.item()


# --- Edges ---


def test_top_k_keeps_exactly_k_of_equal_tokens_and_prefers_low_ids():
    """mlx-lm keeps some k of them; ours are named."""
    kept = filters._most_likely(mx.array([[1.0, 5.0, 1.0, 5.0, 5.0, 0.0]]), column(2))
    assert kept.tolist() == [[False, True, False, True, False, False]]


def test_top_p_keeps_every_token_equal_to_the_last_one():
    """Which of two equals is dropped would be chance."""
    logprobs = log_softmax([[2.0, 1.0, 1.0, -9.0]])
    kept = filters._top_p(logprobs, column(0.7)) > -mx.inf
    assert kept.tolist() == [[True, True, True, False]]


def test_filters_leave_the_one_token_that_the_rules_left():
    """Where a rule has masked all but one token, no filter may drop it."""
    logprobs = mx.array([[-math.inf, 0.0, -math.inf, -math.inf]])
    params = SamplingParams(
        temperature=1.0, top_p=0.1, min_p=0.9, top_k=3, xtc_probability=1.0, min_tokens_to_keep=2
    )
    assert [draw(params, logprobs, step) for step in range(20)] == [1] * 20


def test_xtc_keeps_all_tokens_while_none_is_above_the_threshold():
    """Nothing is likely enough to be too obvious."""
    arrays = {
        "xtc_threshold": column(0.5),
        "xtc_special": mx.array([[False]]),
        "xtc_probability": column(1.0),
    }
    logprobs = log_softmax([[0.0, 0.1, 0.2, 0.3]])
    assert_same_bits(filters._xtc(logprobs, column(0.0), arrays), logprobs)


def test_xtc_falls_as_often_as_its_probability_says():
    """A coin per row and step: 400 throws at 0.25 lie within four standard deviations."""
    params = SamplingParams(temperature=1e-3, xtc_probability=0.25, xtc_threshold=0.1, seed=5)
    logprobs = log_softmax(np.log([[0.6, 0.3, 0.1]]).astype(np.float32))
    sampling = BatchedSampling([params] * 1, 3)
    second = [sampling.sample(logprobs, mx.array([step])).item() == 1 for step in range(400)]
    assert abs(np.mean(second) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 400)


def test_a_tiny_temperature_is_nearly_greedy_and_never_nan():
    """Scaling the noise, not the logits, leaves nothing to overflow."""
    logprobs = log_softmax(random_logits(1))
    params = SamplingParams(temperature=1e-18)
    assert draw(params, logprobs, 0) == int(mx.argmax(logprobs))


def test_draws_follow_the_distribution():
    """4,000 draws at temperature 2 within four standard deviations of p^(1/2), normalised."""
    probs = np.array([0.5, 0.3, 0.15, 0.05])
    logprobs = mx.broadcast_to(mx.array(np.log(probs).astype(np.float32)), (40, 4))
    params = [SamplingParams(temperature=2.0, seed=row) for row in range(40)]
    sampling = BatchedSampling(params, 4)
    tokens = [sampling.sample(logprobs, mx.full((40,), step)) for step in range(100)]
    expected = np.sqrt(probs) / np.sqrt(probs).sum()
    frequencies = np.bincount(np.array(mx.concatenate(tokens)), minlength=4) / 4000
    assert np.all(np.abs(frequencies - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000))


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
        processed = sampling.process(
            mx.array(logits[chosen]),
            mx.array(history[chosen]),
            mx.array([lengths[row] for row in chosen]),
        )
        tokens = sampling.sample(log_softmax(processed), mx.array([steps[row] for row in chosen]))
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
    processed = sampling.process(mx.array(logits), history, mx.array([9, 9]))
    assert_same_bits(processed[0], logits[0])
    tokens = sampling.sample(processed, mx.array([seed, seed]))
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
        token = sampling.sample(logprobs, mx.array([step, step]))[0].item()
        assert token == draw(plain, logprobs[:1], step)


def test_steps_and_seeds_draw_differently():
    """No stream repeats: 1,024 uniform draws out of 2^14 collide about 31 times by chance."""
    params = [SamplingParams(temperature=1.0, seed=seed) for seed in range(16)]
    sampling = BatchedSampling(params, 2**14)
    flat = mx.zeros((16, 2**14))
    drawn = [sampling.sample(flat, mx.full((16,), step)).tolist() for step in range(64)]
    assert len({token for tokens in drawn for token in tokens}) > 1024 - 31 - 5 * 6


def test_the_same_seed_draws_the_same_tokens_in_another_process():
    """The text does not depend on the run."""
    program = (
        "import mlx.core as mx; from worker.device.sampling import *;"
        "s = BatchedSampling([SamplingParams(temperature=1.0, seed=77)], 1000);"
        "print([s.sample(mx.zeros((1, 1000)), mx.array([i])).item() for i in range(5)])"
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
    before = sampling.sample(logprobs, steps).tolist()
    sampling.set_row(1, enter)
    after = sampling.sample(sampling.process(logprobs), steps).tolist()
    assert after[0] == before[0]
    biased = BatchedSampling([enter], VOCAB).process(logprobs[1:2])
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
    assert sampling.process(logits) is logits


def test_a_row_that_left_takes_its_bias_and_special_tokens_along():
    """The next row in the slot starts clean."""
    busy = SamplingParams(temperature=1.0, xtc_probability=1.0, xtc_special_tokens=(0,))
    sampling = BatchedSampling([SamplingParams(logit_bias={0: 9.0}), busy], VOCAB)
    sampling.set_row(0, SamplingParams(logit_bias={1: 1.0}))
    sampling.set_row(1, SamplingParams(temperature=1.0, xtc_probability=1.0))
    assert sampling.process(mx.zeros((2, VOCAB)))[0, :3].tolist() == [0.0, 1.0, 0.0]
    assert not sampling.arrays["xtc_special"].any().item()


def test_a_compiled_step_follows_rows_that_change():
    """The arrays are captured as inputs: new parameters need no new graph."""
    sampling = BatchedSampling([SamplingParams(temperature=1.0, seed=1)], VOCAB, 2)
    compiled = mx.compile(sampling.sample, inputs=sampling.arrays)
    logprobs = log_softmax(random_logits(3, rows=2))
    for seed in range(5):
        sampling.set_row(0, SamplingParams(temperature=1.0, seed=seed))
        steps = mx.array([seed, 0])
        assert compiled(logprobs, steps).tolist() == sampling.sample(logprobs, steps).tolist()


# --- Refusals ---


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [
        ("temperature", -0.1, "[0, "),
        ("temperature", math.nan, "[0, "),
        ("temperature", math.inf, "[0, "),
        ("temperature", 1e-30, "1e-18"),
        ("temperature", "warm", "[0, "),
        ("temperature", None, "[0, "),
        ("top_p", 1.01, "[0, 1]"),
        ("top_p", -1.0, "[0, 1]"),
        ("min_p", 2, "[0, 1]"),
        ("min_p", math.nan, "[0, 1]"),
        ("min_tokens_to_keep", 0, "[1, "),
        ("min_tokens_to_keep", 1.5, "integer"),
        ("top_k", -1, "[0, "),
        ("top_k", True, "integer"),
        ("xtc_probability", 1.5, "[0, 1]"),
        ("xtc_threshold", 0.51, "[0, 0.5]"),
        ("xtc_special_tokens", (-1,), "[0, "),
        ("seed", -1, "[0, "),
        ("seed", 2**64, "[0, "),
        ("seed", 1.0, "integer"),
        ("repetition_penalty", -1.0, "[0, "),
        ("repetition_penalty", math.inf, "[0, "),
        ("repetition_context_size", 0, "[1, "),
        ("presence_penalty", math.nan, "[-1e+18, 1e+18]"),
        ("presence_context_size", -5, "[1, "),
        ("frequency_penalty", -math.inf, "[-1e+18, 1e+18]"),
        ("frequency_context_size", 2**40, "[1, "),
        ("logit_bias", {-1: 1.0}, "[0, "),
        ("logit_bias", {3: math.nan}, "[-1e+18, 1e+18]"),
    ],
)
def test_a_value_outside_its_limits_is_refused_by_name(name, value, limit):
    """The error names the field, the limit and the value, and survives pickle."""
    with pytest.raises(OutOfRange) as caught:
        SamplingParams(**{name: value})
    error = pickle.loads(pickle.dumps(caught.value))
    assert name in error.context
    assert limit in error.constraint
    offending = value[0] if isinstance(value, tuple) else value
    if not isinstance(offending, dict):
        assert error.value == offending or error.value != error.value


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
        sampling.process(mx.zeros(VOCAB))
    with pytest.raises(LengthMismatch):
        sampling.sample(mx.zeros((1, VOCAB + 1)), mx.array([0]))
    with pytest.raises(LengthMismatch, match="penalties need it"):
        sampling.process(mx.zeros((1, VOCAB)))


def test_biases_pair_with_tokens_or_are_refused():
    """Two lists of different lengths have no meaning; repeated tokens add up."""
    assert pair_logit_bias([4, 5, 4], [1.0, 2.0, 0.5]) == {4: 1.5, 5: 2.0}
    with pytest.raises(LengthMismatch, match="2 tokens"):
        pair_logit_bias([4, 5], [1.0])


@settings(deadline=None, max_examples=60)
@given(
    params=row_params,
    bias=st.sampled_from([1e18, -1e18, 1e-18]),
    penalty=st.sampled_from([1e18, 1e-18]),
)
def test_finite_logits_stay_finite_under_any_accepted_penalty(params, bias, penalty):
    """The limits leave no way to overflow float32: NaN cannot become text here."""
    params = replace(
        params, logit_bias={0: bias}, repetition_penalty=penalty, presence_penalty=bias
    )
    sampling = BatchedSampling([params], VOCAB)
    history = mx.zeros((1, 448), mx.int32)
    processed = sampling.process(mx.array(random_logits(1)), history, mx.array([448]))
    assert np.isfinite(np.array(processed)).all()


def test_params_are_a_value():
    """They hash, compare and cannot be changed through the mapping they came with."""
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = math.nan
    assert params == SamplingParams(logit_bias={1: 2.0})
    assert hash(params) == hash(SamplingParams(logit_bias={1: 2.0}))
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.is_greedy
    assert params.needs_filters
    assert not params.needs_history


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
