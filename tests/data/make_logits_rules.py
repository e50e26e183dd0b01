"""Writes logits_rules.json: what openai-whisper's logit filters and greedy decoder do.

Run in the reference environment of README.md: `python tests/data/make_logits_rules.py`.
The logits are not stored: `recipes.scripted_logits` gives the same numbers anywhere.
"""

import json
from pathlib import Path

import numpy as np
import torch
from recipes import scripted_logits
from whisper.decoding import (
    ApplyTimestampRules,
    DecodingOptions,
    DecodingTask,
    GreedyDecoder,
    MaximumLikelihoodRanker,
    SuppressBlank,
    SuppressTokens,
)
from whisper.tokenizer import get_tokenizer

OUTPUT = Path(__file__).with_name("logits_rules.json")
# (vocabulary size, multilingual, number of languages): the three vocabularies of the published models.
VOCABULARIES = {
    "tiny.en": (51864, False, 99),
    "base": (51865, True, 99),
    "large-v3": (51866, True, 100),
}


def ranges(mask: np.ndarray) -> list[list[int]]:
    """Half-open [start, stop] ranges of the true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return edges.reshape(-1, 2).tolist()


class Vocabulary:
    """A published vocabulary with openai-whisper's filters for it, no weights needed."""

    def __init__(self, name: str):
        self.name = name
        self.num_vocab, multilingual, num_languages = VOCABULARIES[name]
        self.tokenizer = get_tokenizer(
            multilingual,
            num_languages=num_languages,
            language="en" if multilingual else None,
            task="transcribe" if multilingual else None,
        )
        task = object.__new__(DecodingTask)  # only _get_suppress_tokens is used: no model
        task.tokenizer, task.options = self.tokenizer, DecodingOptions()
        self.suppress_tokens = task._get_suppress_tokens()

    def describe(self) -> dict:
        return {
            "num_vocab": self.num_vocab,
            "sot_sequence": list(self.tokenizer.sot_sequence),
            "eot": self.tokenizer.eot,
            "sot_prev": self.tokenizer.sot_prev,
            "no_speech": self.tokenizer.no_speech,
            "no_timestamps": self.tokenizer.no_timestamps,
            "timestamp_begin": self.tokenizer.timestamp_begin,
            "blank": [*self.tokenizer.encode(" "), self.tokenizer.eot],
            "suppress_tokens": list(self.suppress_tokens),
        }

    def filters(self, sample_begin: int, max_initial_timestamp_index: int | None) -> dict:
        return {
            "suppress_blank": SuppressBlank(self.tokenizer, sample_begin),
            "suppress_tokens": SuppressTokens(self.suppress_tokens),
            "timestamp_rules": ApplyTimestampRules(
                self.tokenizer, sample_begin, max_initial_timestamp_index
            ),
        }


def rule_cases(vocabulary: Vocabulary) -> list[dict]:
    """The prefixes and logits that take each branch of the filters; ids are real ones."""
    tokenizer, num_vocab = vocabulary.tokenizer, vocabulary.num_vocab
    begin = tokenizer.timestamp_begin
    words = tokenizer.encode(" And so my fellow Americans")
    quote = min(vocabulary.suppress_tokens)  # a text token that is always suppressed
    text_wins = [words[0], words[0] + 1, 20.0]
    timestamps_win = [begin, num_vocab, 12.0]
    eot_wins = [tokenizer.eot, tokenizer.eot + 1, 20.0]

    def case(name, sampled, overrides=(), *, prompt=(), max_initial=50):
        return {
            "name": name,
            "prompt": list(prompt),
            "sampled": list(sampled),
            "overrides": [list(item) for item in overrides],
            "max_initial_timestamp_index": max_initial,
        }

    prompt = [*words, begin + 1400, begin + 1400, *words]
    return [
        case("first step", []),
        case("first step, text would win", [], [text_wins]),
        case("first step, a late timestamp would win", [], [[begin + 700, begin + 701, 20.0]]),
        case("first step, index 50 allowed", [], [[begin + 50, begin + 51, 20.0]]),
        case("first step, index 51 not", [], [[begin + 51, begin + 52, 20.0]]),
        case("first step, no initial limit", [], [[begin + 700, begin + 701, 20.0]], max_initial=None),
        case("first step, limit of 0.5 s", [], [[begin + 30, begin + 31, 20.0]], max_initial=25),
        case("first step after a prompt with timestamps", [], prompt=prompt),
        case("after 0.00, text must follow", [begin]),
        case("after 0.00, timestamps would win", [begin], [timestamps_win]),
        case("after 0.00, EOT would win", [begin], [eot_wins]),
        case("after 0.50", [begin + 25]),
        case("after text, text wins", [begin, *words], [text_wins]),
        case("after text, mass of timestamps wins", [begin, *words], [[begin, num_vocab, 4.0]]),
        # The 1,500 timestamps left have a mass of about 9.24 + 4.
        case("after text, mass of timestamps just short", [begin, *words], [[words[0], words[0] + 1, "13.4"], [begin, num_vocab, 4.0]]),
        case("after text, mass of timestamps just over", [begin, *words], [[words[0], words[0] + 1, "13.1"], [begin, num_vocab, 4.0]]),
        case("after text, EOT wins", [begin, *words], [eot_wins]),
        case("0.00 is a timestamp: the segment has a length", [begin, *words], [[begin, begin + 1, 20.0]]),
        case("monotone: earlier than the last is off", [begin + 300, *words], [[begin + 100, begin + 101, 20.0]]),
        case("monotone: equal to the last is off after text", [begin + 300, *words], [[begin + 300, begin + 301, 20.0]]),
        case("monotone: the next is on", [begin + 300, *words], [[begin + 301, begin + 302, 20.0]]),
        case("closing timestamp, pair not yet made", [begin, *words, begin + 150]),
        case("closing timestamp, text would win", [begin, *words, begin + 150], [text_wins]),
        case("closing timestamp, the same value opens", [begin, *words, begin + 150], [[begin + 150, begin + 151, 20.0]]),
        case("closing timestamp, earlier would win", [begin, *words, begin + 150], [[begin + 149, begin + 150, 20.0]]),
        case("closing timestamp, EOT wins", [begin, *words, begin + 150], [eot_wins]),
        case("pair made, text must follow", [begin, *words, begin + 150, begin + 150], [timestamps_win]),
        case("pair made, EOT would win", [begin, *words, begin + 150, begin + 150], [eot_wins]),
        case("pair of unequal values", [begin, *words, begin + 150, begin + 160]),
        case("second segment, first word", [begin, *words, begin + 150, begin + 160, words[0]], [timestamps_win]),
        case("second segment, last is 3.20", [begin, *words, begin + 150, begin + 160, *words], [[begin + 155, begin + 156, 20.0]]),
        case("after text and 30.00, closing", [begin + 1400, *words, begin + 1500]),
        case("after 30.00 pair", [begin + 1400, *words, begin + 1500, begin + 1500], [text_wins]),
        case("after 30.00 pair and text no timestamp is left", [begin + 1400, *words, begin + 1500, begin + 1500, *words], [timestamps_win]),
        # The mass must be taken after masking. Forbidden timestamps hold the mass here: text stays.
        case("mass: only forbidden timestamps are heavy", [begin + 1000, *words], [text_wins, [begin, begin + 1001, 25.0]]),
        # A suppressed token holds the text's maximum here: timestamps win once it is masked.
        case("mass: the best text token is suppressed", [begin, *words], [[quote, quote + 1, 30.0], [begin, num_vocab, 3.0]]),
        case("mass: notimestamps holds the maximum", [begin, *words], [[tokenizer.no_timestamps, tokenizer.no_timestamps + 1, 30.0], [begin, num_vocab, 3.0]]),
        case("mass: many small timestamps outweigh the best text", [begin, *words], [[words[0], words[0] + 1, "9.5"], [begin, num_vocab, 1.0]]),
        case("mass: one text token outweighs them", [begin, *words], [[words[0], words[0] + 1, "11.0"], [begin, num_vocab, 1.0]]),
        case("a prompt's timestamps do not count", [begin, *words], [[begin + 10, begin + 11, 20.0]], prompt=prompt),
        case("text without any timestamp", words, [[begin, begin + 1, 20.0]]),
        case("logits with -inf already in them", [begin, *words], [[0, 200, "-inf"], text_wins]),
    ]  # fmt: skip


def apply_rules(vocabulary: Vocabulary, case: dict, seed: int) -> dict:
    """Add what each filter alone, and all in decoding order, forbid and choose."""
    initial = list(vocabulary.tokenizer.sot_sequence)
    if case["prompt"]:
        initial = [vocabulary.tokenizer.sot_prev, *case["prompt"], *initial]
    tokens = torch.tensor([[*initial, *case["sampled"]]])
    filters = vocabulary.filters(len(initial), case["max_initial_timestamp_index"])
    logits = torch.tensor(scripted_logits(vocabulary.num_vocab, seed, case["overrides"]))[None]
    before = torch.isneginf(logits[0])
    expected = {}
    together = logits.clone()
    for name, rule in filters.items():
        alone = logits.clone()
        rule.apply(alone, tokens)
        expected[name] = ranges((torch.isneginf(alone[0]) & ~before).numpy())
        rule.apply(together, tokens)
    expected["all"] = ranges(torch.isneginf(together[0]).numpy())
    expected["argmax"] = int(together[0].argmax())
    expected["logprob"] = float(together[0].log_softmax(-1).max())
    expected["no_speech_prob"] = float(logits[0].softmax(-1)[vocabulary.tokenizer.no_speech])
    without = logits.clone()
    for name in ("suppress_blank", "suppress_tokens"):
        filters[name].apply(without, tokens)
    expected["argmax_without_timestamps"] = int(without[0].argmax())
    return {**case, "vocabulary": vocabulary.name, "seed": seed, "expected": expected}


def greedy_case(vocabulary: Vocabulary, name: str, *, temperature: float, num_steps: int) -> dict:
    """Decode four rows of scripted logits at once: rows end at steps 2, 5, 9 and never.

    Row r at step s reads `scripted_logits(num_vocab, 1000 * (r + 1) + s, overrides)`, where the
    only override is +30 on EOT at the row's last step.
    """
    tokenizer = vocabulary.tokenizer
    last_steps = [2, 5, 9, None]
    sample_begin = len(tokenizer.sot_sequence)
    tokens = torch.tensor([list(tokenizer.sot_sequence)] * len(last_steps))
    sums = torch.zeros(len(last_steps))
    filters = vocabulary.filters(sample_begin, 50).values()
    decoder = GreedyDecoder(temperature, tokenizer.eot)
    torch.manual_seed(0)
    for step in range(num_steps):
        rows = [
            scripted_logits(
                vocabulary.num_vocab,
                1000 * (row + 1) + step,
                [[tokenizer.eot, tokenizer.eot + 1, 30.0]] if step == last else [],
            )
            for row, last in enumerate(last_steps)
        ]
        logits = torch.tensor(np.stack(rows))
        for rule in filters:
            rule.apply(logits, tokens)
        tokens, completed = decoder.update(tokens, logits, sums)
        if completed:
            break
    finished, sum_logprobs = decoder.finalize(tokens[:, None], sums[:, None])
    sampled = [
        row[0][sample_begin : int((row[0] == tokenizer.eot).nonzero()[0, 0])].tolist()
        for row in finished
    ]
    return {
        "name": name,
        "vocabulary": vocabulary.name,
        "temperature": temperature,
        "num_steps": num_steps,
        "last_steps": last_steps,
        "expected": {
            "tokens": sampled,
            "sum_logprob": [row[0] for row in sum_logprobs],
            "avg_logprob": [
                row[0] / (len(ids) + 1) for row, ids in zip(sum_logprobs, sampled, strict=True)
            ],
        },
    }


def ranker_cases() -> list[dict]:
    """Which of several samples is kept: the sum over the length without EOT, or Google's penalty."""
    groups = [
        ([-5.0, -9.0, -3.0], [10, 20, 4]),
        ([-1.0, -1.0], [3, 3]),
        ([-12.5, -2.5, -30.0], [25, 5, 61]),
    ]
    cases = []
    for length_penalty in (None, 0.0, 0.5, 1.0):
        ranker = MaximumLikelihoodRanker(length_penalty)
        for sums, lengths in groups:
            chosen = ranker.rank([[torch.zeros(n) for n in lengths]], [sums])[0]
            cases.append(
                {
                    "length_penalty": length_penalty,
                    "sum_logprob": sums,
                    "lengths": lengths,
                    "expected": int(chosen),
                }
            )
    return cases


def main() -> None:
    vocabularies = {name: Vocabulary(name) for name in VOCABULARIES}
    rules = [
        apply_rules(vocabulary, case, seed)
        for vocabulary in vocabularies.values()
        for seed, case in enumerate(rule_cases(vocabulary))
    ]
    greedy = [
        greedy_case(vocabulary, name, temperature=temperature, num_steps=12)
        for vocabulary in vocabularies.values()
        for name, temperature in (("greedy", 0.0), ("sampled", 0.7))
    ]
    document = {
        "made_by": "tests/data/make_logits_rules.py",
        "vocabularies": {name: item.describe() for name, item in vocabularies.items()},
        "rules": rules,
        "greedy": greedy,
        "ranker": ranker_cases(),
    }
    OUTPUT.write_text(json.dumps(document) + "\n")
    print(
        f"{OUTPUT.name}: {len(rules)} rule cases, {len(greedy)} decodes, {OUTPUT.stat().st_size} bytes"
    )


if __name__ == "__main__":
    main()
