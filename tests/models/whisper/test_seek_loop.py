"""The window loop against openai-whisper's own, answer for answer: tests/data/seek_loop.json."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from producer.job import Options
from worker.device.decode_request import Decode, Decoded
from worker.engine.messages import Checkpoint
from worker.engine.requests import Compute
from worker.engine.speech import Speech
from worker.models.whisper import words
from worker.models.whisper.limits import ModelLimits
from worker.models.whisper.requests import Align, Alignment, Encode
from worker.models.whisper.transcription import Transcription
from worker.models.whisper.word_timing import WordTiming

CASES = json.loads((Path(__file__).parents[2] / "data" / "seek_loop.json").read_text("utf-8"))
LIMITS = ModelLimits(n_vocab=51_864, context_length=448)
SOT, SOT_PREV = 50_257, 50_360


def options_of(case):
    """Return our options of the reference's; its temperature may be one number."""
    options = dict(case["options"])
    temperature = options.pop("temperature")
    temperatures = temperature if isinstance(temperature, list) else [temperature]
    return Options(temperatures=tuple(temperatures), **options)


def prompt_of(window):
    """Return the decoder's prompt: the last 223 tokens of what the reference passes."""
    previous = window["prompt"][-223:]
    return (SOT_PREV, *previous, SOT) if previous else (SOT,)


class Replay:
    """Answers a transcription's requests as the reference was answered, and checks each one."""

    def __init__(self, windows):
        self.windows = windows
        self.num_windows = 0
        self.num_decodes = 0

    @property
    def window(self):
        return self.windows[self.num_windows - 1]

    def answer(self, request):
        match request:
            case Checkpoint():
                return None
            case Encode(seek, size, for_language=False):
                self.num_windows += 1
                self.num_decodes = 0
                assert (self.window["seek"], self.window["size"]) == (seek, size)
                return "states"
            case Decode():
                expected = self.window["decodes"][self.num_decodes]
                self.num_decodes += 1
                assert prompt_of(self.window) == request.prompt
                assert expected["temperature"] == request.temperature
                tokens = tuple(expected["tokens"])
                total = expected["avg_logprob"] * (len(tokens) + 1)
                return [Decoded(tokens, total, expected["no_speech_prob"])]
            case Align():
                return Alignment(np.zeros((1, 1, 1), np.float32), np.zeros(0, np.float32))
            case Compute():
                return request.run()
        raise AssertionError(request)

    def find_words(self, *_):
        return [
            WordTiming(word, tuple(tokens), start, end, probability)
            for word, tokens, start, end, probability in self.window["alignment"]
        ]


def described(segment):
    return {
        "seek": segment.seek,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"seed{case['seed']}")
def test_windows_prompts_fallback_and_segments_equal_the_references(case, monkeypatch):
    """Every window, prompt and temperature asked for, and every segment kept, is the reference's."""
    replay = Replay(case["windows"])
    monkeypatch.setattr(words, "token_times", lambda *_: None)
    monkeypatch.setattr(words, "find_words", replay.find_words)
    transcription = Transcription(options_of(case), LIMITS)
    features = SimpleNamespace(content_frames=case["content_frames"])
    requests = transcription.requests(features, Speech())
    reply = None
    try:
        while True:
            reply = replay.answer(requests.send(reply))
    except StopIteration:
        pass
    assert len(case["windows"]) == replay.num_windows
    assert len(case["segments"]) == len(transcription.segments)
    for expected, actual in zip(case["segments"], transcription.segments, strict=True):
        assert {key: expected[key] for key in described(actual)} == described(actual)
        given = [[w.word, w.start, w.end, w.probability] for w in actual.words or ()]
        assert expected.get("words", []) == given
    assert case["text"] == transcription.text
