"""A Parakeet transcription without a network: replies are scripted, and every request is kept."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from producer.job import Options
from worker.engine.messages import Checkpoint
from worker.engine.requests import Compute
from worker.engine.speech import Speech
from worker.models.parakeet.cut import RATE_HZ
from worker.models.parakeet.requests import Encode, Encoded, HearSpeech, Label, LabelCtc, Recognize
from worker.models.parakeet.samples import Samples
from worker.models.parakeet.transcription import ModelFacts, Transcription
from worker.models.parakeet.vocabulary import WORD_START as SPACE
from worker.models.parakeet.vocabulary import Vocabulary

FRAME_S = 0.08
# Ids are indices; the blank is behind the last.
PIECES = [
    "<unk>",
    f"{SPACE}hello",
    f"{SPACE}wor",
    "ld",
    ".",
    f"{SPACE}Next",
    ",",
    "?",
    f"{SPACE}z",
    "<|nospeech|>",
    SPACE,
    "<0xC3>",
    "<0xA9>",
    f"{SPACE}\u00bfQu",
]
VOCABULARY = Vocabulary(tuple(PIECES))
IDS = {piece.replace(SPACE, "_"): number for number, piece in enumerate(PIECES)}


def labels(*found: tuple[str, int] | tuple[str, int, int], p: float = 0.9) -> tuple[Label, ...]:
    """Return labels from pieces (`_` for a space), frames, and durations of 2 if none is given."""
    return tuple(
        Label(IDS[piece], frame, (*rest, 2)[0], math.log(p)) for piece, frame, *rest in found
    )


def facts(*, detector=None, is_ctc=False, hears_speech=False, languages=("en",)):
    """Return what a transcription knows of a model with the pieces above."""
    return ModelFacts(VOCABULARY, FRAME_S, is_ctc, hears_speech, languages, detector)


def samples_of(seconds: float) -> Samples:
    """Return finished samples whose values are their positions, in seconds."""
    features = Samples()
    count = round(seconds * RATE_HZ)
    values = np.arange(count, dtype=np.float32) / RATE_HZ
    for start in range(0, count, 50_000):
        features.push(values[start : start + 50_000])
    features.finish()
    return features


class Script:
    """Answers a transcription's requests.

    Args:
        say: Labels of a piece, given its first second and its length in seconds.
        head: Probability of speech in each frame of a block, given its first second.
    """

    def __init__(
        self,
        say: Callable[[float, float], Sequence[Label]],
        head: Callable[[float], float] = lambda _second: 1.0,
    ) -> None:
        self.say, self.head = say, head
        self.asked: list[str] = []
        self.pieces: list[tuple[float, float]] = []
        self.checkpoints: list[Checkpoint] = []

    def run(self, transcription: Transcription, features: Samples, speech: Speech) -> None:
        """Drive a transcription to its end."""
        requests = transcription.requests(features, speech)
        reply = None
        while True:
            try:
                request = requests.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(request, Checkpoint):
                self.checkpoints.append(request)
            else:
                self.asked.append(type(request).__name__)
                reply = self._answer(request)

    def _answer(self, request):
        match request:
            case Encode(samples):
                return Encoded(_span(samples), round(len(samples) / RATE_HZ / FRAME_S))
            case Recognize(Encoded(states=(start, length))):
                self.pieces.append((start, length))
                return tuple(self.say(start, length))
            case LabelCtc(samples):
                self.pieces.append(_span(samples))
                return tuple(self.say(*self.pieces[-1]))
            case HearSpeech(samples):
                start, length = _span(samples)
                seconds = start + FRAME_S * np.arange(round(length / FRAME_S))
                return np.array([self.head(second) for second in seconds], np.float32)
            case Compute(run=run):
                return run()
        raise AssertionError(request)


def _span(samples):
    return (round(float(samples[0]), 3), round(len(samples) / RATE_HZ, 3))


def transcribe(
    say, seconds, *, edges=None, speech=None, checkpoint=None, model=None, head=None, **options
):
    """Return a finished transcription and the script that answered it."""
    script = Script(say, *(() if head is None else (head,)))
    transcription = Transcription(Options(**options), model or facts(), checkpoint)
    heard = speech or Speech([0.0, seconds] if edges is None else edges)
    script.run(transcription, samples_of(seconds), heard)
    return transcription, script
