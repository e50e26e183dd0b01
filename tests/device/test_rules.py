"""The logit rules as rows of one batch: any mixture, exact sums, and ids that must exist.

That each rule is openai-whisper's is shown by tests/device/test_reference_rules.py.
"""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import OutOfRange
from tests.data.recipes import scripted_logits
from worker.device.decode_request import RowRules, TimestampRules
from worker.device.rules import (
    NO_RULES,
    BatchedRules,
    advance,
    apply_rules,
    start_state,
)

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "logits_rules.json").read_text("utf-8"))
CONTEXT_LENGTH = 448


def rules_of(case):
    vocabulary = VECTORS["vocabularies"][case["vocabulary"]]
    return RowRules(
        suppress=(*vocabulary["suppress_tokens"], vocabulary["no_timestamps"]),
        suppress_first=tuple(vocabulary["blank"]),
        timestamps=TimestampRules(
            vocabulary["eot"],
            vocabulary["timestamp_begin"],
            case["max_initial_timestamp_index"],
        ),
    )


def prompt_of(case):
    vocabulary = VECTORS["vocabularies"][case["vocabulary"]]
    before = [vocabulary["sot_prev"], *case["prompt"]] if case["prompt"] else []
    return [*before, *vocabulary["sot_sequence"]]


def state_after(case, rules):
    """Return the state of one row after the tokens that it sampled."""
    state = start_state([prompt_of(case)], CONTEXT_LENGTH)
    for token in case["sampled"]:
        state = advance(state, mx.array([token], mx.int32), rules)
    return state


@pytest.mark.parametrize("name", VECTORS["vocabularies"])
def test_all_histories_at_once_forbid_and_choose_what_the_reference_does(name):
    """Rows of every length, each at its own step, in one batch; one row more has no rules at all."""
    cases = [case for case in VECTORS["rules"] if case["vocabulary"] == name]
    num_vocab = VECTORS["vocabularies"][name]["num_vocab"]
    rules = BatchedRules([*map(rules_of, cases), NO_RULES], num_vocab).arrays
    states = [
        state_after(case, BatchedRules([rules_of(case)], num_vocab).arrays)
        for case in (*cases, cases[0])
    ]
    state = {key: mx.concatenate([each[key] for each in states]) for key in states[0]}
    scripted = [scripted_logits(num_vocab, case["seed"], case["overrides"]) for case in cases]
    logits = mx.array(np.stack([*scripted, scripted[0]]))
    *rows, free = np.array(apply_rules(logits, state, rules))
    for case, row in zip(cases, rows, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], np.isneginf(row), [0]])))
        assert case["expected"]["all"] == edges.reshape(-1, 2).tolist(), case["name"]
        assert case["expected"]["argmax"] == row.argmax(), case["name"]
    np.testing.assert_array_equal(scripted[0], free)
    probabilities = np.array(logits[:-1] - mx.logsumexp(logits[:-1], axis=-1, keepdims=True))
    assert np.isfinite(probabilities.max(axis=1)).all()


def test_rows_change_their_rules_without_touching_the_others():
    """A joining row brings its own; what it replaces is forgotten."""
    first, second = RowRules(suppress=(3,)), RowRules(suppress=(4,), suppress_first=(5,))
    rules = BatchedRules([first, first], 10)
    state = start_state([[0], [0]], CONTEXT_LENGTH)

    def forbidden():
        masked = np.array(apply_rules(mx.zeros((2, 10)), state, rules.arrays))
        return [np.flatnonzero(np.isneginf(row)).tolist() for row in masked]

    assert forbidden() == [[3], [3]]
    rules.set_rows({1: second})
    assert forbidden() == [[3], [4, 5]]
    rules.set_rows({0: NO_RULES, 1: first})
    assert forbidden() == [[], [3]]


def test_what_may_not_come_first_may_come_later():
    """Only the first step of each row is a first step."""
    rules = BatchedRules([RowRules(suppress_first=(5,))] * 2, 10)
    early = start_state([[0]], CONTEXT_LENGTH)
    late = advance(early, mx.array([7], mx.int32), BatchedRules([NO_RULES], 10).arrays)
    state = {key: mx.concatenate([early[key], late[key]]) for key in early}
    masked = np.array(apply_rules(mx.zeros((2, 10)), state, rules.arrays))
    assert np.isneginf(masked).sum(axis=1).tolist() == [1, 0]


def test_a_state_remembers_prompt_and_samples_in_their_places():
    """The history that penalties read: prompt first, then every token sampled."""
    rules = BatchedRules([RowRules(timestamps=TimestampRules(eot=50, begin=60))] * 2, 100).arrays
    state = start_state([[7, 8, 9], [5]], 8)
    for tokens in ([61, 1], [2, 62], [63, 3]):
        state = advance(state, mx.array(tokens, mx.int32), rules)
    assert state["history"].tolist() == [
        [7, 8, 9, 61, 2, 63, 0, 0, 0],
        [5, 1, 62, 3, 0, 0, 0, 0, 0],
    ]
    assert state["position"].tolist() == [5, 3]
    assert state["step"].tolist() == [3, 3]
    assert state["last_timestamp"].tolist() == [63, 62]
    assert state["ended"].tolist() == [True, False]
    assert state["ended_before"].tolist() == [False, True]


def test_a_row_that_runs_past_the_context_writes_inside_its_history():
    """It has ended already; its neighbours' memory is not its own."""
    rules = BatchedRules([NO_RULES], 10).arrays
    state = start_state([[1, 2, 3]], 4)
    for token in range(4, 9):
        state = advance(state, mx.array([token], mx.int32), rules)
    assert state["history"].shape == (1, 5)
    assert state["history"].tolist()[0][:4] == [1, 2, 3, 4]


@pytest.mark.parametrize("field", ["suppress", "suppress_first"])
@pytest.mark.parametrize("wrong", [-1, 10, 50_000])
def test_an_id_that_the_vocabulary_lacks_is_out_of_range(field, wrong):
    """The error names it and the limit."""
    with pytest.raises(OutOfRange, match=r"\[0, 10\)") as caught:
        BatchedRules([RowRules(**{field: (3, wrong)})], 10)
    assert caught.value.value == wrong
