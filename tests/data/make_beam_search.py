"""Writes beam_search.json: what openai-whisper's beam search finds on scripted log-probabilities.

Run in the reference environment of README.md: `python tests/data/make_beam_search.py`.
`BeamSearchDecoder`, the main loop around it and `MaximumLikelihoodRanker` are openai-whisper's own.
The numbers are `recipes.beam_logprobs`, the same bits anywhere, so that sums and ties are, too. For
that, `log_softmax` is replaced by the identity: they are log-probabilities already.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import whisper.decoding
from make_logits_rules import Vocabulary
from recipes import beam_logprobs
from whisper.decoding import BeamSearchDecoder, DecodingTask, MaximumLikelihoodRanker

OUTPUT = Path(__file__).with_name("beam_search.json")
SMALL_VOCAB, SMALL_EOT, SMALL_PROMPT = 61, 2, [1]
PENALTIES = [None, 0.0, 0.3, 0.6, 1.0]
LIKELY, UNLIKELY = 0.0, -20.0


class Scripted:
    """In the network's place: the log-probabilities of the recipe, for each row's tokens."""

    def __init__(self, case: dict, prompt_length: int):
        self.case, self.prompt_length = case, prompt_length
        self.num_steps = 0

    def logits(self, tokens: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        self.num_steps += 1
        case = self.case
        rows = [
            beam_logprobs(
                case["num_vocab"],
                row[self.prompt_length :],
                case["kind"],
                case["eot"],
                case["ends"],
            )
            for row in tokens.tolist()
        ]
        return torch.tensor(np.stack(rows))[:, None]

    def rearrange_kv_cache(self, sources: list[int]) -> None:
        """Nothing is kept: the rows' tokens say all."""

    def cleanup_caching(self) -> None:
        """Nothing is kept."""


def searched(case: dict, prompt: list[int], filters: list) -> dict:
    """Add what the reference finds, and what it takes of it."""
    task = object.__new__(DecodingTask)  # no model
    inference = Scripted(case, len(prompt))
    task.inference, task.logit_filters = inference, filters
    task.tokenizer = SimpleNamespace(no_speech=None)
    task.sample_len, task.n_ctx, task.sot_index = case["sample_len"], 448, 0
    task.decoder = BeamSearchDecoder(case["beam_size"], case["eot"], inference, case["patience"])
    tokens = torch.tensor([prompt] * case["beam_size"])
    tokens, sums, _ = task._main_loop(torch.zeros(1), tokens)
    [found], [sums] = task.decoder.finalize(tokens[None], sums[None])
    ends = [int((each == case["eot"]).nonzero()[0, 0]) for each in found]
    found = [each[len(prompt) : end] for each, end in zip(found, ends, strict=True)]
    # The reference divides by zero where a hypothesis is empty and nothing penalises length.
    possible = [a for a in PENALTIES if a is not None or all(map(len, found))]
    ranked = {str(a): int(MaximumLikelihoodRanker(a).rank([found], [sums])[0]) for a in possible}
    return {
        **case,
        "expected": {
            "num_steps": inference.num_steps,
            "tokens": [each.tolist() for each in found],
            "sum_logprob": [each if math.isfinite(each) else str(each) for each in sums],
            "chosen": ranked,
        },
    }


def small_cases() -> list[dict]:
    """Sizes, patience, and the ways in which a search ends, over a vocabulary of 61."""

    def case(name, beam_size, ends, *, patience=None, kind="prefix", sample_len=14):
        return {
            "name": f"{name}, {beam_size} beams, patience {patience}",
            "num_vocab": SMALL_VOCAB,
            "eot": SMALL_EOT,
            "prompt": SMALL_PROMPT,
            "beam_size": beam_size,
            "patience": patience,
            "kind": kind,
            "ends": ends,
            "sample_len": sample_len,
        }

    ways = {
        "some beams end now and then": [[3, -1.0], [5, -4.0], [7, -0.75], [9, -2.0]],
        "the first token may be the end": [[0, -0.25], [1, -1.5]],
        "all beams end at once": [[0, UNLIKELY], [6, LIKELY]],
        "one ends early, the others late": [[2, -0.5], [3, UNLIKELY], [11, LIKELY]],
        "no beam ends": [],
        "fewer end than are wanted": [[4, -0.5], [5, UNLIKELY]],
    }
    cases = [
        case(name, size, ends, patience=patience)
        for name, ends in ways.items()
        for size in (1, 2, 5, 8)
        for patience in (None, 1.0, 2.0)
        if size > 1 or patience == 2.0
    ]
    cases += [
        case("less patience than beams", 5, ways["some beams end now and then"], patience=0.5),
        case("patience that is rounded to even", 5, ways["all beams end at once"], patience=0.5),
        case("one token", 5, [[0, -0.25]], sample_len=1),
    ]
    for size in (2, 5, 8):
        for way in ("some beams end now and then", "all beams end at once", "no beam ends"):
            for kind in ("step", "few"):
                cases.append(case(f"{kind}: {way}", size, ways[way], kind=kind))
    return cases


def rule_cases() -> list[tuple[dict, list]]:
    """The reference's filters before each step, over real vocabularies."""
    made = []
    for name in ("tiny.en", "base"):
        vocabulary = Vocabulary(name)
        for size, patience in ((2, None), (5, None), (5, 2.0), (8, None)):
            made.append(
                (
                    {
                        "name": f"rules of {name}, {size} beams, patience {patience}",
                        "vocabulary": name,
                        "num_vocab": vocabulary.num_vocab,
                        "eot": vocabulary.tokenizer.eot,
                        "prompt": list(vocabulary.tokenizer.sot_sequence),
                        "beam_size": size,
                        "patience": patience,
                        "kind": "prefix",
                        "ends": [[4, LIKELY], [6, UNLIKELY], [8, LIKELY]],
                        "sample_len": 10,
                    },
                    list(vocabulary.filters(len(vocabulary.tokenizer.sot_sequence), 50).values()),
                )
            )
    return made


def main() -> None:
    whisper.decoding.F = SimpleNamespace(log_softmax=lambda values, dim: values)
    cases = [searched(each, each["prompt"], []) for each in small_cases()]
    cases += [searched(each, each["prompt"], filters) for each, filters in rule_cases()]
    OUTPUT.write_text(json.dumps({"cases": cases}) + "\n")


if __name__ == "__main__":
    main()
