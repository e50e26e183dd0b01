"""Beam search against openai-whisper's own (tests/data/beam_search.json), alone and in any company."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.recipes import beam_logprobs
from tests.stage.toy_model import ToyModel, toy_audio
from worker.device.decode_request import BeamSearch, Decode, RowRules, TimestampRules
from worker.device.stepper import TokenStepper
from worker.device.top_tokens import highest
from worker.models.whisper.fallback import likeliest as ranked_first

DATA = Path(__file__).parents[1] / "data"
CASES = json.loads((DATA / "beam_search.json").read_text("utf-8"))["cases"]
VOCABULARIES = json.loads((DATA / "logits_rules.json").read_text("utf-8"))["vocabularies"]


class RecipeModel(ToyModel):
    """Gives the recipe's log-probabilities for the tokens that each row has read."""

    def __init__(self, case):
        super().__init__()
        self.case, self.num_vocab = case, case["num_vocab"]

    def log_normalizer(self, logits):
        return mx.zeros((logits.shape[0], 1))

    def _logits(self, tokens, at, states):
        case = self.case
        first = len(case["prompt"])
        rows = [
            beam_logprobs(
                self.num_vocab, row[first : end + 1], case["kind"], case["eot"], case["ends"]
            )
            for row, end in zip(tokens.tolist(), at.tolist(), strict=True)
        ]
        return mx.array(np.stack(rows))


def rules_of(case):
    """Return the rules with which the reference made a case."""
    if "vocabulary" not in case:
        return RowRules()
    vocabulary = VOCABULARIES[case["vocabulary"]]
    return RowRules(
        suppress=(*vocabulary["suppress_tokens"], vocabulary["no_timestamps"]),
        suppress_first=tuple(vocabulary["blank"]),
        timestamps=TimestampRules(vocabulary["eot"], vocabulary["timestamp_begin"]),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_hypotheses_are_those_of_the_reference(case):
    """All of them, in its order, with its sums to the last bit, and so is the one that is taken."""
    request = Decode(
        encoder_states=toy_audio(0),
        prompt=tuple(case["prompt"]),
        sot_index=0,
        no_speech=0,
        eot=case["eot"],
        max_tokens=case["sample_len"],
        rules=rules_of(case),
        temperature=0.0,
        seeds=(0,),
        search=BeamSearch(case["beam_size"], case["patience"] or 1.0),
    )
    found = decoded(TokenStepper(RecipeModel(case), 1, case["beam_size"]), request)
    expected = case["expected"]
    assert expected["tokens"] == [list(each.tokens) for each in found]
    sums = [float(each) for each in expected["sum_logprob"]]
    assert sums == [each.sum_logprob for each in found]
    for penalty, chosen in expected["chosen"].items():
        length_penalty = None if penalty == "None" else float(penalty)
        assert found.index(ranked_first(found, length_penalty)) == chosen


def decoded(stepper, request):
    stepper.add("only", request)
    for _ in range(200):
        for _, found in stepper.step():
            return found
    raise AssertionError("no end")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    width=st.sampled_from([3, 61, 128, 129, 700, 5000]),
    count=st.sampled_from([1, 3, 6, 33]),
    levels=st.sampled_from([2, 7, 10**6]),
    forbidden=st.sampled_from([0.0, 0.5, 0.999]),
    seed=st.integers(0, 10**6),
)
def test_the_likeliest_are_those_of_a_stable_sort(width, count, levels, forbidden, seed):
    """For any width, with many equals, and with most of it forbidden: equals by their places."""
    generator, rows, count = np.random.default_rng(seed), 3, min(count, width)
    logprobs = -generator.integers(0, levels, (rows, width)).astype(np.float32)
    logprobs[generator.random((rows, width)) < forbidden] = -np.inf
    wanted = np.argsort(-logprobs, axis=1, kind="stable")[:, :count]
    values, places = highest(mx.array(logprobs), count)
    np.testing.assert_array_equal(np.array(places), wanted)
    np.testing.assert_array_equal(np.array(values), np.take_along_axis(logprobs, wanted, axis=1))
