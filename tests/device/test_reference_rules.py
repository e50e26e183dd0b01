"""The logit rules against openai-whisper's own filters: tests/data/logits_rules.json."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.data.recipes import scripted_logits
from worker.device.decode_request import RowRules, TimestampRules
from worker.device.rules import BatchedRules, advance, apply_rules, start_state

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "logits_rules.json").read_text("utf-8"))
VOCABULARIES = VECTORS["vocabularies"]
CONTEXT_LENGTH = 448


def rules_of(vocabulary, max_initial_index=50):
    return RowRules(
        suppress=(*vocabulary["suppress_tokens"], vocabulary["no_timestamps"]),
        suppress_first=tuple(vocabulary["blank"]),
        timestamps=TimestampRules(
            vocabulary["eot"], vocabulary["timestamp_begin"], max_initial_index
        ),
    )


def prompt_of(case, vocabulary):
    before = [vocabulary["sot_prev"], *case["prompt"]] if case["prompt"] else []
    return [*before, *vocabulary["sot_sequence"]]


def ranges(mask):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return edges.reshape(-1, 2).tolist()


def log_softmax(logits):
    return logits - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True)


def apply_to(cases, vocabulary):
    """Apply the rules to several histories of one length, as the rows of one batch."""
    row_rules = [rules_of(vocabulary, case["max_initial_timestamp_index"]) for case in cases]
    rules = BatchedRules(row_rules, vocabulary["num_vocab"]).arrays
    state = start_state([prompt_of(case, vocabulary) for case in cases], CONTEXT_LENGTH)
    for tokens in zip(*(case["sampled"] for case in cases), strict=True):
        state = advance(state, mx.array(tokens, mx.int32), rules)
    logits = [
        scripted_logits(vocabulary["num_vocab"], case["seed"], case["overrides"]) for case in cases
    ]
    return np.array(apply_rules(mx.array(np.stack(logits)), state, rules))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_every_branch_forbids_and_chooses_what_the_reference_does(name):
    """Forbidden ids are equal as sets, the choice is equal, its log-probability to rounding."""
    for case in VECTORS["rules"]:
        if case["vocabulary"] == name:
            (actual,) = apply_to([case], VOCABULARIES[name])
            expected = case["expected"]
            assert expected["all"] == ranges(np.isneginf(actual)), case["name"]
            assert expected["argmax"] == actual.argmax(), case["name"]
            assert expected["logprob"] == pytest.approx(log_softmax(actual).max(), abs=1e-4)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_rows_of_a_batch_do_not_hear_of_each_other(name):
    """All histories of one length at once, with rules of their own, give what each gives alone."""
    by_length = {}
    for case in VECTORS["rules"]:
        if case["vocabulary"] == name:
            by_length.setdefault(len(case["sampled"]), []).append(case)
    for cases in by_length.values():
        for case, actual in zip(cases, apply_to(cases, VOCABULARIES[name]), strict=True):
            assert case["expected"]["all"] == ranges(np.isneginf(actual)), case["name"]


@pytest.mark.parametrize("case", VECTORS["greedy"], ids=lambda c: f"{c['vocabulary']}-{c['name']}")
def test_whole_decodes_add_up_to_the_references_sums(case):
    """Token for token at temperature 0; the sum counts the end of text, and each row stops alone."""
    vocabulary = VOCABULARIES[case["vocabulary"]]
    eot = vocabulary["eot"]
    for row, tokens in enumerate(case["expected"]["tokens"]):
        rules = BatchedRules([rules_of(vocabulary)], vocabulary["num_vocab"]).arrays
        state = start_state([vocabulary["sot_sequence"]], CONTEXT_LENGTH)
        last, total = case["last_steps"][row], 0.0
        for step, token in enumerate([*tokens, eot][: case["num_steps"]]):
            raise_eot = [[eot, eot + 1, 30.0]] if step == last else []
            logits = scripted_logits(vocabulary["num_vocab"], 1000 * (row + 1) + step, raise_eot)
            filtered = np.array(apply_rules(mx.array(logits)[None], state, rules))[0]
            assert case["temperature"] > 0 or token == filtered.argmax()
            total += log_softmax(filtered)[token]
            state = advance(state, mx.array([token], mx.int32), rules)
        assert case["expected"]["sum_logprob"][row] == pytest.approx(total, abs=1e-3)
        average = total / (len(tokens) + 1)
        assert case["expected"]["avg_logprob"][row] == pytest.approx(average, abs=1e-4)
