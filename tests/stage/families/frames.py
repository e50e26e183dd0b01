"""A toy family with a stepper of its own: a row walks over a recording, frame by frame.

It writes a letter wherever the loudness changes, as a transducer (TDT) emits labels; many
recordings walk together, and each ends where its recording does.
"""

from collections import deque
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from producer.result import Model, Segment
from worker.device.backend import dtype_name
from worker.engine.family import Counts
from worker.engine.memory_plan import MemoryNeeds
from worker.engine.messages import Checkpoint
from worker.engine.requests import Rows, ask

FRAME = 1600  # samples: 100 ms at 16 kHz
LETTERS = "abcdefghij"


@dataclass(frozen=True)
class Walk(Rows[list[tuple[int, str]]]):
    """Walk over the frames of a recording; the reply is where each letter stands."""

    levels: np.ndarray


class Levels:
    """The loudness of each frame, 0 to 9."""

    def __init__(self):
        self.levels = np.zeros(0, int)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples):
        waiting = np.concatenate([self._rest, samples])
        whole = len(waiting) // FRAME * FRAME
        loudness = np.abs(waiting[:whole].reshape(-1, FRAME)).mean(axis=1) if whole else []
        self.levels = np.concatenate([self.levels, np.clip(np.asarray(loudness) * 10, 0, 9)])
        self._rest = waiting[whole:]

    def finish(self):
        self.levels = self.levels.astype(int)


@dataclass(eq=False)
class WalkingRow:
    """One recording's place: the frame it stands at, and what it has written."""

    key: object
    request: Walk
    at: int = 0
    last: int = -1
    written: list = field(default_factory=list)


class FrameStepper:
    """A `worker.engine.family.Stepper` whose rows advance by a frame a step."""

    wait_s = 0.0

    def __init__(self, num_slots):
        self.num_slots = num_slots
        self._rows, self._waiting = [], deque()

    @property
    def num_active(self):
        return len(self._rows)

    @property
    def num_wanted(self):
        return len(self._rows) + len(self._waiting)

    def add(self, key, request):
        self._waiting.append(WalkingRow(key, request))

    def step(self):
        while self._waiting and len(self._rows) < self.num_slots:
            self._rows.append(self._waiting.popleft())
        walking = [row for row in self._rows if row.at < len(row.request.levels)]
        levels = mx.array([int(row.request.levels[row.at]) for row in walking], mx.int32)
        changed = (levels != mx.array([row.last for row in walking], mx.int32)).tolist()
        for row, is_new, level in zip(walking, changed, levels.tolist(), strict=True):
            if is_new:
                row.written.append((row.at, LETTERS[level]))
            row.at, row.last = row.at + 1, level
        ended = [row for row in self._rows if row.at >= len(row.request.levels)]
        self._rows = [row for row in self._rows if row not in ended]
        return [(row.key, row.written) for row in ended]

    def drop(self, key):
        self._rows = [row for row in self._rows if row.key != key]
        self._waiting = deque(row for row in self._waiting if row.key != key)

    def shrink(self):
        if self.num_slots == 1:
            return False
        self.num_slots //= 2
        unfinished = [*self._rows, *self._waiting]
        self.reset()
        for row in unfinished:
            self.add(row.key, row.request)
        return True

    def reset(self):
        self._rows, self._waiting = [], deque()


class FrameTranscription:
    """One recording, walked over once."""

    language, language_probability, flags = "en", None, []

    def __init__(self):
        self.segments, self.counts, self.seconds_done = [], Counts(), 0.0

    @property
    def text(self):
        return "".join(segment.text for segment in self.segments)

    def requests(self, features, speech):
        letters = yield from ask(Walk(features.levels))
        self.counts.windows += 1
        self.counts.generated_tokens += len(letters)
        ends = [at for at, _ in letters[1:]] + [len(features.levels)]
        for number, ((at, letter), end) in enumerate(zip(letters, ends, strict=True)):
            neutral = {"tokens": [], "temperature": 0.0, "avg_logprob": 0.0}
            neutral |= {"compression_ratio": 1.0, "no_speech_prob": 0.0}
            span = {"id": number, "seek": at * 10, "start": at / 10, "end": end / 10}
            self.segments.append(Segment(**span, text=letter, **neutral))
        self.seconds_done = len(features.levels) / 10
        yield Checkpoint(tuple(self.segments), "en")


class Frames:
    """Implements `worker.engine.family.Family`."""

    name, num_vocab = "frames", 0
    needs = MemoryNeeds(weights_bytes=0, row_bytes=1_000, request_bytes=0)

    def __init__(self):
        self.computations = {}
        self.model = Model(name="toy-frames", revision="1", dtype=dtype_name(mx.float32))

    def rehearsal(self):
        return None

    def pin(self, plan):
        self.plan = plan
        self.stepper = FrameStepper(plan.slots)

    def check(self, options):
        pass

    def features(self):
        return Levels()

    def transcription(self, options, checkpoint):
        return FrameTranscription()

    def peak_memory_bytes(self):
        return mx.get_peak_memory()


def load(settings):
    """Return the model; it has no weights."""
    return Frames()
