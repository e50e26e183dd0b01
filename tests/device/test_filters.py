"""Processors, filters and the draw: mlx-lm's arithmetic, and what it leaves open."""

import math
from dataclasses import replace

import mlx.core as mx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm import sample_utils

from tests.stage.sampled_rows import (
    VOCAB,
    assert_same_bits,
    column,
    draw,
    log_softmax,
    process,
    random_logits,
    row_params,
    sample,
    token_ids,
)
from worker.device import filters
from worker.device.sampling import BatchedSampling
from worker.device.sampling_params import SamplingParams


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
    actual = process(sampling, mx.array(logits), padded, mx.array([len(history)]))
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
    second = [sample(sampling, logprobs, mx.array([step])).item() == 1 for step in range(400)]
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
    tokens = [sample(sampling, logprobs, mx.full((40,), step)) for step in range(100)]
    expected = np.sqrt(probs) / np.sqrt(probs).sum()
    frequencies = np.bincount(np.array(mx.concatenate(tokens)), minlength=4) / 4000
    assert np.all(np.abs(frequencies - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000))


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
    processed = process(sampling, mx.array(random_logits(1)), history, mx.array([448]))
    assert np.isfinite(np.array(processed)).all()
