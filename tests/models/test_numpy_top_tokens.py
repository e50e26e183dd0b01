"""The likeliest tokens in NumPy are those of `worker.device.top_tokens`, its twin in MLX."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.device.decode_request import RowRules, TimestampRules
from worker.device.rules import NO_RULES, BatchedRules, start_state
from worker.device.top_tokens import top_tokens as twin
from worker.models.numpy_math import log_sum_exp, shared
from worker.models.numpy_top_tokens import top_tokens

EOT, BEGIN = 40, 44
ROW_RULES = st.sampled_from(
    [
        NO_RULES,
        RowRules((1, 2, 43), (7,)),
        RowRules((1,), (EOT,), TimestampRules(EOT, BEGIN, 5)),
        RowRules((), (), TimestampRules(EOT, BEGIN, None)),
        RowRules((3,), (), TimestampRules(EOT, BEGIN + 4, 0)),
        RowRules(tuple(range(50)), (), TimestampRules(EOT, BEGIN, 2)),
    ]
)
PAST = st.tuples(
    st.integers(0, 2), st.booleans(), st.booleans(), st.sampled_from([-1, BEGIN, BEGIN + 6, 59])
)
KINDS = st.sampled_from(["spread", "equals", "nan", "one nan", "forbidden", "infinite"])


def logits_of(kind, width, generator):
    if kind == "equals":
        return generator.integers(-2, 3, width)
    logits = generator.normal(0, 4, width)
    if kind == "nan":
        logits[:] = np.nan
    elif kind == "one nan":
        logits[generator.integers(width)] = np.nan
    elif kind == "forbidden":
        logits[:] = -np.inf
    elif kind == "infinite":
        logits[generator.random(width) < 0.9] = -np.inf
    return logits


def state_of(rows):
    steps, ended, closed, last = zip(*rows, strict=True)
    return start_state([[0]] * len(rows), 8) | {
        "step": mx.array(steps, mx.int32),
        "ended": mx.array(ended),
        "ended_before": mx.array(closed),
        "last_timestamp": mx.array(last, mx.int32),
    }


def both(logits, state, rules, count):
    """Return values and tokens of the twin, and ours."""
    expected = shared(*twin(mx.array(logits), state, rules, count, normalizer))
    with np.errstate(all="ignore"):
        return expected, top_tokens(mx.array(logits), state, rules, count)


def normalizer(logits):
    with np.errstate(all="ignore"):
        return mx.array(log_sum_exp(*shared(logits)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(ROW_RULES, PAST, KINDS), min_size=1, max_size=6),
    width=st.sampled_from([60, 61, 300, 1000]),
    count=st.sampled_from([1, 3, 6]),
    seed=st.integers(0, 10**6),
)
def test_rows_of_any_past_and_rules_have_the_tokens_of_the_twin(rows, width, count, seed):
    """Rules on and off, equals, what is no number, all forbidden: side by side in one batch."""
    generator = np.random.default_rng(seed)
    asked, pasts, kinds = zip(*rows, strict=True)
    logits = np.array([logits_of(kind, width, generator) for kind in kinds], np.float32)
    rules = BatchedRules(asked, width).arrays
    (wanted, ids), (values, tokens) = both(logits, state_of(pasts), rules, count)
    known = np.isfinite(wanted)
    np.testing.assert_array_equal(np.isfinite(values), known)
    np.testing.assert_allclose(values[known], wanted[known], rtol=0, atol=2e-6)
    # Of a row without any likeliest token it does not matter which are named, if there are such.
    is_known = known[:, 0]
    np.testing.assert_array_equal(tokens[is_known], ids[is_known])
    assert tokens.min() >= 0
    assert tokens.max() < width


@pytest.mark.parametrize("count", [1, 6])
def test_a_whole_vocabulary_has_the_very_values_of_the_twin(count):
    """Sums are made alike where text is possible: then nothing differs, not the last bit."""
    rules = BatchedRules([RowRules((5, 220), (50256,), TimestampRules(50256, 50363))] * 4, 51864)
    logits = np.random.default_rng(1).normal(0, 3, (4, 51864)).astype(np.float32)
    logits[:, 50363:] -= 30
    state = state_of([(3, False, False, 50400)] * 4)
    (wanted, ids), (values, tokens) = both(logits, state, rules.arrays, count)
    np.testing.assert_array_equal(tokens, ids)
    np.testing.assert_array_equal(values, wanted)
