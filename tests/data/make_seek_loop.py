"""Writes seek_loop.json: openai-whisper's window loop, driven by scripted decoder results.

Run in the reference environment of README.md: `python tests/data/make_seek_loop.py`.
Its own `transcribe` ran with a model that answers each `decode` from a script. A test replays the
answers through our window loop and expects the same questions and the same segments. This covers
seeking, prompts, fallback, clips, silence skipping and the hallucination rules without weights.
"""

import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
import whisper.timing
from whisper.decoding import DecodingResult
from whisper.timing import WordTiming
from whisper.tokenizer import get_tokenizer
from whisper.utils import compression_ratio

# The package's attribute of this name is the function.
TRANSCRIBE = sys.modules["whisper.transcribe"]
OUTPUT = Path(__file__).with_name("seek_loop.json")
NUM_CASES = 160
MAX_DECODES = 45
FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SENTENCES = [
    " And so my fellow Americans",
    " ask not what your country can do for you.",
    " Yes.",
    " No, no!",
    " It was a bright cold day in April, and the clocks were striking thirteen.",
    " Thank you.",
    " ...",
    " Well, well, well, well, well, well, well, well, well, well, well, well, well, well.",
]


class TooLongError(Exception):
    """A scenario that does not end soon: openai-whisper itself may loop on such answers."""


class ScriptedModel:
    """Answers `decode` at random and keeps every question and answer."""

    device = torch.device("cpu")
    is_multilingual = False
    num_languages = 99
    dims = SimpleNamespace(n_mels=80, n_audio_ctx=1500, n_text_ctx=448, n_vocab=51864)

    def __init__(self, rng: random.Random, *, difficulty: float):
        self.rng = rng
        self.difficulty = difficulty
        self.tokenizer = get_tokenizer(multilingual=False, num_languages=99)
        self.windows: list[dict] = []

    def decode(self, mel: torch.Tensor, options: whisper.DecodingOptions) -> DecodingResult:
        if sum(len(window["decodes"]) for window in self.windows) > MAX_DECODES:
            raise TooLongError
        # The scripted spectrogram holds each frame's number plus one; padding is zero.
        seek, size = int(mel[0, 0]) - 1, int((mel[0] > 0).sum())
        prompt = list(options.prompt or [])
        if not self.windows or options.temperature == self.first_temperature:
            self.windows.append({"seek": seek, "size": size, "prompt": prompt, "decodes": []})
        assert self.windows[-1]["prompt"] == prompt
        tokens = self.answer(size)
        text = self.tokenizer.decode(tokens).strip()
        hard = self.rng.random() < self.difficulty
        result = DecodingResult(
            audio_features=None,
            language="en",
            tokens=tokens,
            text=text,
            avg_logprob=-round(
                self.rng.uniform(0.9, 1.6) if hard else self.rng.uniform(0.1, 0.9), 3
            ),
            no_speech_prob=round(self.rng.choice([0.01, 0.3, 0.59, 0.61, 0.9]), 3),
            temperature=options.temperature,
            compression_ratio=compression_ratio(text),
        )
        self.windows[-1]["decodes"].append(
            {
                "temperature": options.temperature,
                "tokens": tokens,
                "avg_logprob": result.avg_logprob,
                "no_speech_prob": result.no_speech_prob,
            }
        )
        return result

    def answer(self, size: int) -> list[int]:
        """Token ids of one of the forms that the logit rules allow a window to have."""
        begin, rng = self.tokenizer.timestamp_begin, self.rng
        last = max(min(size // 2, 1500), 2)
        form = rng.choice(
            ["pairs"] * 4 + ["closed"] * 3 + ["text", "open", "empty", "zero", "blank"]
        )
        if form == "empty":
            return rng.choice([[], [begin], [begin, begin + last]])
        if form == "text":
            return [begin, *self.sentence()]
        if form == "zero":
            # The last timestamp is 0.00: the window's own length is the segment's.
            return [*self.sentence(), begin]
        times = sorted(rng.sample(range(last + 1), k=min(2 * rng.randrange(1, 4), last + 1)))
        if len(times) % 2:
            times.pop()
        tokens: list[int] = []
        for start, end in zip(times[::2], times[1::2], strict=True):
            blank = form == "blank" and rng.random() < 0.5
            text = self.tokenizer.encode(" ") if blank else self.sentence()
            tokens += [begin + start, *text, begin + end]
        if form in ("pairs", "blank"):
            tokens.append(tokens[-1])  # the next segment opens: seek goes back to here
            if rng.random() < 0.6:
                tokens += self.sentence()  # an unfinished tail, to be dropped
        elif form == "open":
            tokens += [tokens[-1], *self.sentence()]
        return tokens

    def sentence(self) -> list[int]:
        return self.tokenizer.encode(self.rng.choice(SENTENCES))

    def align(
        self, _model, tokenizer, text_tokens, _mel, num_frames, **_kwargs
    ) -> list[WordTiming]:
        """In place of `find_alignment`: random times inside the window, kept with the window."""
        words, word_tokens = tokenizer.split_to_word_tokens([*text_tokens, tokenizer.eot])
        if len(word_tokens) <= 1:
            self.windows[-1]["alignment"] = []
            return []
        limit, now = num_frames // 2, 0
        now = self.rng.choice([0, 0, limit // 3, limit // 2])
        timings = []
        for word, ids in zip(words[:-1], word_tokens[:-1], strict=True):
            step = self.rng.choice([0, 1, 3, 10, 12, 15, 25, 40, 150, 240])
            end = min(now + step, limit)
            probability = round(self.rng.choice([0.02, 0.1, 0.4, 0.8, 0.95]), 3)
            timings.append(WordTiming(word, ids, now / 50, end / 50, probability))
            now = end
        self.windows[-1]["alignment"] = [
            [t.word, list(t.tokens), t.start, t.end, t.probability] for t in timings
        ]
        return timings


def options_of(rng: random.Random, duration_s: float) -> dict:
    options: dict = {"temperature": rng.choice([0.0, list(FALLBACK), list(FALLBACK), [0.0, 0.6]])}
    if rng.random() < 0.3:
        options["condition_on_previous_text"] = False
    if rng.random() < 0.4:
        options["initial_prompt"] = " ".join(
            rng.choices(SENTENCES, k=rng.choice([1, 4, 30]))
        ).strip()
        options["carry_initial_prompt"] = rng.random() < 0.5
    if rng.random() < 0.3:
        ends = sorted(round(rng.uniform(0, duration_s), 2) for _ in range(rng.randrange(1, 5)))
        options["clip_timestamps"] = ends
    if rng.random() < 0.2:
        options[
            rng.choice(["no_speech_threshold", "logprob_threshold", "compression_ratio_threshold"])
        ] = None
    if rng.random() < 0.5:
        options["word_timestamps"] = True
        if rng.random() < 0.6:
            options["hallucination_silence_threshold"] = rng.choice([0.5, 2.0, 5.0])
    return options


def describe(segment: dict) -> dict:
    stored = {key: segment[key] for key in ("seek", "text", "tokens", "temperature")}
    stored |= {"start": float(segment["start"]), "end": float(segment["end"])}
    if "words" in segment:
        stored["words"] = [
            [word["word"], float(word["start"]), float(word["end"]), word["probability"]]
            for word in segment["words"]
        ]
    return stored


def run_case(seed: int) -> dict | None:
    rng = random.Random(seed)
    num_frames = rng.choice([1, 3, 250, 2999, 3000, 3001, 4500, 7321, 12_000])
    options = options_of(rng, num_frames / 100)
    model = ScriptedModel(rng, difficulty=rng.choice([0.0, 0.3, 0.9]))
    temperature = options["temperature"]
    model.first_temperature = temperature[0] if isinstance(temperature, list) else temperature
    mel = torch.zeros(80, num_frames + 3000)
    mel[:, :num_frames] = torch.arange(1, num_frames + 1)
    try:
        with (
            mock.patch.object(TRANSCRIBE, "log_mel_spectrogram", return_value=mel),
            mock.patch.object(whisper.timing, "find_alignment", model.align),
        ):
            result = TRANSCRIBE.transcribe(model, None, fp16=False, **options)
    except (TooLongError, IndexError, RuntimeError) as error:
        print(f"seed {seed} left out: {error!r}")
        return None
    return {
        "seed": seed,
        "content_frames": num_frames,
        "options": options,
        "windows": model.windows,
        "text": result["text"],
        "segments": [describe(segment) for segment in result["segments"]],
    }


def main() -> None:
    cases: list[dict] = []
    seed = 0
    while len(cases) < NUM_CASES:
        case = run_case(seed)
        if case is not None:
            cases.append(case)
        seed += 1
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    OUTPUT.write_text(f"[\n{lines}\n]\n")
    windows = sum(len(case["windows"]) for case in cases)
    print(f"{len(cases)} cases of {seed} seeds, {windows} windows, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
