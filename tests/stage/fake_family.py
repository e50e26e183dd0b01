"""A family without a model, for tests of the engine's policy: it decodes what it is told to.

A window's text is a function of the recording's samples and of the window alone, so that every
transcript can be checked whatever happened on the way. A decode takes `steps` steps of the loop.
"""

import threading
from collections import deque

import numpy as np

from producer.errors import OutOfMemory
from producer.result import Model
from worker.device.decode_request import Decoded
from worker.engine.family import Computation
from worker.engine.memory_plan import MemoryNeeds, MemoryPlan
from worker.models.whisper.family import PATIENCE_STEPS
from worker.models.whisper.limits import ModelLimits, check_options
from worker.models.whisper.requests import Align, Alignment, DetectLanguage, Encode
from worker.models.whisper.transcription import Transcription

EOT, BEGIN = 50_256, 50_363


def words_of(level, seek):
    """Return the text tokens of a window: its recording's level, then where it starts."""
    return [1000 + level, 2000 + seek // 100]


class FakeMel:
    """Counts samples, and knows a recording by its first one: a 16-bit level."""

    def __init__(self):
        self.level = None
        self.num_samples = 0

    @property
    def content_frames(self):
        return self.num_samples // 160

    def push(self, samples):
        if self.level is None:
            self.level = round(float(samples[0]) * 32768)
        self.num_samples += len(samples)

    def finish(self):
        pass


class FakeStepper:
    """A `worker.engine.family.Stepper` whose rows end after a number of steps.

    Attributes:
        step_errors: Raised by the next steps, in order; None lets one pass.
        outcome_errors: Level of a recording -> what its decode ends with.
        max_rows_that_fit: More rows raise `OutOfMemory` at a step.
        ended: (level, seek) of the windows decoded, in order.
    """

    def __init__(self, slots, steps):
        self.num_slots = slots
        self.steps = steps
        self.wait_s = 0.0
        self.step_errors = deque()
        self.outcome_errors = {}
        self.max_rows_that_fit = slots
        self.ended, self.threads = [], set()
        self._waiting, self._rows = {}, {}
        self._go = threading.Event()
        self._go.set()

    # For tests: any thread.

    def hold(self):
        """Let nothing decode until `go`; recordings still arrive and are encoded."""
        self._go.clear()

    def go(self):
        self._go.set()

    # For the engine.

    @property
    def num_active(self):
        return len(self._rows)

    @property
    def num_wanted(self):
        return len(self._rows) + len(self._waiting)

    def add(self, key, request):
        self._waiting[key] = request

    def step(self):
        self.threads.add(threading.get_ident())
        if not self._go.wait(0.001):
            return []
        while self._waiting and len(self._rows) < self.num_slots:
            key = next(iter(self._waiting))
            self._rows[key] = [self._waiting.pop(key), self.steps]
        if self.step_errors and (error := self.step_errors.popleft()):
            raise error
        if len(self._rows) > self.max_rows_that_fit:
            raise OutOfMemory("device", "must have room for the batch", len(self._rows))
        for row in self._rows.values():
            row[1] -= 1
        ended = [key for key, (_, left) in self._rows.items() if left == 0]
        return [(key, self._outcome(self._rows.pop(key)[0])) for key in ended]

    def drop(self, key):
        self._waiting.pop(key, None)
        self._rows.pop(key, None)

    def shrink(self):
        if self.num_slots == 1:
            return False
        self.num_slots //= 2
        # Windows start anew, in order.
        self._waiting = {key: row[0] for key, row in self._rows.items()} | self._waiting
        self._rows = {}
        return True

    def reset(self):
        self._waiting, self._rows = {}, {}

    def _outcome(self, request):
        level, seek, size = request.encoder_states
        self.ended.append((level, seek))
        if level in self.outcome_errors:
            return self.outcome_errors[level]
        tokens = (BEGIN, *words_of(level, seek), BEGIN + size // 2)
        return [Decoded(tokens, -0.1 * len(tokens), 0.01)]


class FakeFamily:
    """A `worker.engine.family.Family` with Whisper's transcriptions over a fake device.

    Attributes:
        encode_errors: Raised by the next encodes, in order; None lets one pass.
        max_windows_that_fit: More windows raise `OutOfMemory` when they are encoded.
        batches: How many windows each encode had.
        is_scored: Without, alignments have no attention, which breaks their recording.
    """

    def __init__(self, slots=2, encode_batch=2, steps=3):
        self.limits = ModelLimits(n_vocab=51_864, context_length=448)
        self.name, self.num_vocab = "fake", self.limits.n_vocab
        self.model = Model(name="fake", revision="0", dtype="float32")
        self.needs = MemoryNeeds(0, 0, 0)
        self.stepper = FakeStepper(slots, steps)
        self.encode_errors = deque()
        self.max_windows_that_fit = encode_batch
        self.batches, self.threads = [], set()
        self.is_scored = True
        self.pin(MemoryPlan(1, self.needs, slots, encode_batch))

    def pin(self, plan):
        self.plan = plan
        self.computations = {
            Encode: Computation(self.encode, plan.batch_size, PATIENCE_STEPS),
            DetectLanguage: Computation(self.detect_language, plan.batch_size),
            Align: Computation(self.align, plan.batch_size),
        }

    def check(self, options):
        check_options(options, self.limits)

    def features(self):
        self.threads.add(threading.get_ident())
        return FakeMel()

    def transcription(self, options, checkpoint):
        return Transcription(options, self.limits, checkpoint)

    def encode(self, windows):
        if self.encode_errors and (error := self.encode_errors.popleft()):
            raise error
        if len(windows) > self.max_windows_that_fit:
            raise OutOfMemory("device", "must have room for the batch", len(windows))
        self.batches.append(len(windows))
        return [(asked.features.level, asked.seek, asked.size) for asked in windows]

    def detect_language(self, requests):
        raise AssertionError("an English model detects nothing")

    def align(self, requests):
        num_heads = 1 if self.is_scored else 0
        alignments = [
            Alignment(
                np.zeros((num_heads, len(request.tokens), 1500), np.float32),
                np.zeros(len(request.tokens) - 1, np.float32),
            )
            for request in requests
        ]
        return lambda: alignments

    def peak_memory_bytes(self):
        return 1
