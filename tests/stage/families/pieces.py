"""A toy family without a stepper: it cuts at pauses and names each piece's loudness.

Pieces are of any length, nothing is autoregressive, and there are no token ids. It shows all that
a family needs, and what a CTC model would do: `worker.models.MODELS` has its one line in
tests/stage/toy_worker.py.
"""

from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from producer.errors import InvalidOptions
from producer.result import Model, Segment
from worker.engine.family import Computation, Counts
from worker.engine.memory_plan import MemoryNeeds
from worker.engine.messages import Checkpoint
from worker.engine.requests import Batched, ask

FRAME = 160  # samples: 10 ms at 16 kHz
QUIET, LOUD = 0.02, 0.25


@dataclass(frozen=True)
class Classify(Batched[str]):
    """Say how loud a piece is; the reply is a word."""

    samples: np.ndarray


class Samples:
    """Keeps the recording as it is: a toy has time and memory."""

    def __init__(self):
        self.blocks = []

    def push(self, samples):
        self.blocks.append(np.array(samples))

    def finish(self):
        self.samples = np.concatenate(self.blocks) if self.blocks else np.zeros(0, np.float32)


class PieceTranscription:
    """One recording, piece by piece; a checkpoint after each."""

    language, language_probability = "en", None

    def __init__(self, checkpoint):
        self.segments = list(checkpoint.segments) if checkpoint else []
        self.counts = Counts()

    @property
    def text(self):
        return "".join(segment.text for segment in self.segments)

    @property
    def flags(self):
        return sorted({flag for segment in self.segments for flag in segment.flags})

    @property
    def seconds_done(self):
        return self.segments[-1].end if self.segments else 0.0

    def requests(self, features, speech):
        for first, last in cut_at_pauses(features.samples)[len(self.segments) :]:
            word = yield from ask(Classify(features.samples[first * FRAME : last * FRAME]))
            self.counts.windows += 1
            self.counts.generated_tokens += 1
            self.segments.append(_segment(len(self.segments), first / 100, last / 100, word))
            yield Checkpoint(tuple(self.segments), "en")


class Pieces:
    """Implements `worker.engine.family.Family`."""

    name, num_vocab = "pieces", 0
    stepper = None
    needs = MemoryNeeds(weights_bytes=0, row_bytes=0, request_bytes=1_000_000)

    def __init__(self):
        self.model = Model(name="toy-pieces", revision="1", dtype="float32")

    def rehearsal(self):
        return None

    def pin(self, plan):
        self.plan = plan
        self.computations = {Classify: Computation(self.classify, plan.batch_size)}

    def check(self, options):
        if options.word_timestamps:
            raise InvalidOptions("options: word_timestamps", "this model has no words", True)

    def features(self):
        return Samples()

    def transcription(self, options, checkpoint):
        return PieceTranscription(checkpoint)

    def classify(self, requests):
        longest = max(len(request.samples) for request in requests)
        rows = [np.pad(r.samples, (0, longest - len(r.samples))) for r in requests]
        lengths = mx.array([len(request.samples) for request in requests])
        loudness = mx.abs(mx.array(np.stack(rows))).sum(axis=1) / lengths
        mx.async_eval(loudness)
        return lambda: [" loud" if level > LOUD else " soft" for level in loudness.tolist()]

    def peak_memory_bytes(self):
        return mx.get_peak_memory()


def load(settings):
    """Return the model; it has no weights."""
    return Pieces()


def cut_at_pauses(samples):
    """Return the first and last frame of each piece that is not quiet."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    is_heard = np.abs(frames).mean(axis=1) > QUIET if len(frames) else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(np.r_[False, is_heard, False].astype(int)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _segment(number, start, end, text):
    return Segment(
        id=number,
        seek=round(start * 100),
        start=start,
        end=end,
        text=text,
        tokens=[],
        temperature=0.0,
        avg_logprob=0.0,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )
