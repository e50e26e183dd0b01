"""Sampling parameters: their limits, and that they are values."""

import math
import pickle

import pytest

from producer.errors import LengthMismatch, OutOfRange
from worker.device.filters import Stage
from worker.device.sampling_params import SamplingParams, pair_logit_bias


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


def test_biases_pair_with_tokens_or_are_refused():
    """Two lists of different lengths have no meaning; repeated tokens add up."""
    assert pair_logit_bias([4, 5, 4], [1.0, 2.0, 0.5]) == {4: 1.5, 5: 2.0}
    with pytest.raises(LengthMismatch, match="2 tokens"):
        pair_logit_bias([4, 5], [1.0])


def test_params_are_a_value():
    """They hash, compare and cannot be changed through the mapping they came with."""
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = math.nan
    assert params == SamplingParams(logit_bias={1: 2.0})
    assert hash(params) == hash(SamplingParams(logit_bias={1: 2.0}))
    assert pickle.loads(pickle.dumps(params)) == params
    assert params.is_greedy
    assert params.stages & ~Stage.DRAW
    assert not params.stages & Stage.PENALTIES
