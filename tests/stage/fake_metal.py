"""A Mac's GPU as MLX's source says it behaves, on a clock of its own, for tests of the engine's policy.

- In order: a command buffer begins when the one before it has ended.
- At most ten are under way: committing an eleventh waits for the first.
- Memory over the limit waits for buffers under way to give theirs back; then it is given all the
  same, since MLX's limit is soft.
- The error of a buffer is thrown at the next use of the device after its end, whatever that is.

Times are those of `worker.cli.expected_speed`; nothing here was seen on a Mac.
"""

from collections import deque
from dataclasses import dataclass, field

from producer.result import Model
from worker.cli.expected_speed import MODELS, TOKENS_A_WINDOW, WINDOW_S, encode_s, mac_plan, step_s
from worker.device.backend import translated_errors
from worker.engine.family import Computation, Counts
from worker.engine.requests import Batched, Rows, ask
from worker.models.whisper.family import PATIENCE_STEPS

MOST_UNDER_WAY = 10  # mlx/transforms.cpp, MAX_ACTIVE_TASKS
BUFFERS_A_LAYER = 10  # nearly each operation of an encoder layer is a buffer of its own
BUFFERS_A_STEP = 6  # a turbo step's 165 operations


@dataclass
class Buffer:
    """A command buffer: when it ends on the device's clock, and the memory it holds till then."""

    ends: float
    size: int
    error: str = ""


@dataclass
class FakeMetal:
    """The device; `now` is the host's clock, which moves only when the host waits or works."""

    limit_bytes: int
    resident_bytes: int = 0
    now: float = 0.0
    peak_bytes: int = 0
    peak_under_way: int = 0
    next_error: str = ""
    _under_way: deque = field(default_factory=deque)
    _thrown: str = ""

    def commit(self, seconds, size=0):
        """Hand over a command buffer; waits where MLX would, and throws an older one's error."""
        self._use()
        while len(self._under_way) >= MOST_UNDER_WAY:
            self._wait_for_first()
        while self._under_way and self._held_bytes() + size > self.limit_bytes:
            self._wait_for_first()
        last = self._under_way[-1].ends if self._under_way else self.now
        buffer = Buffer(max(self.now, last) + seconds, size, self.next_error)
        self.next_error = ""
        self._under_way.append(buffer)
        self.peak_bytes = max(self.peak_bytes, self._held_bytes())
        self.peak_under_way = max(self.peak_under_way, len(self._under_way))
        return buffer

    def wait(self, buffer):
        """Wait for a buffer's end, as reading one of its arrays does."""
        while self._under_way and self._under_way[0].ends <= buffer.ends:
            self._wait_for_first()
        self.now = max(self.now, buffer.ends)
        self._use()

    def _use(self):
        while self._under_way and self._under_way[0].ends <= self.now:
            self._end_first()
        if self._thrown:
            said, self._thrown = self._thrown, ""
            raise RuntimeError(f"[METAL] Command buffer execution failed: {said}")

    def _wait_for_first(self):
        self.now = max(self.now, self._under_way[0].ends)
        self._end_first()
        self._use()

    def _end_first(self):
        self._thrown = self._under_way.popleft().error or self._thrown

    def _held_bytes(self):
        return self.resident_bytes + sum(buffer.size for buffer in self._under_way)


class Encode(Batched):
    """A window to encode."""


class Decode(Rows):
    """A window to decode: `TOKENS_A_WINDOW` steps."""


class MetalStepper:
    """A stepper that reads a step when `steps_ahead` later ones are handed over, as ours does."""

    wait_s = 0.0

    def __init__(self, metal, chip, dims, slots, steps_ahead):
        self.num_slots, self._steps_ahead = slots, steps_ahead
        self._metal, self._chip, self._dims = metal, chip, dims
        self._waiting, self._rows = {}, {}
        self._unread = deque()

    @property
    def num_active(self):
        return len(self._rows)

    @property
    def num_wanted(self):
        return len(self._rows) + len(self._waiting)

    def add(self, key, request):
        self._waiting[key] = request

    def step(self):
        while self._waiting and len(self._rows) < self.num_slots:
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._rows[key] = TOKENS_A_WINDOW
        if not self._rows:
            return []
        with translated_errors():
            seconds = step_s(self._chip, self._dims, len(self._rows))
            for _ in range(BUFFERS_A_STEP):
                last = self._metal.commit(seconds / BUFFERS_A_STEP)
            self._unread.append((last, list(self._rows)))
            return self._read()

    def _read(self):
        ended = []
        while len(self._unread) > self._steps_ahead:
            buffer, keys = self._unread.popleft()
            self._metal.wait(buffer)
            for key in keys:
                if key in self._rows:
                    self._rows[key] -= 1
                    if self._rows[key] == 0:
                        del self._rows[key]
                        ended.append((key, "text"))
        return ended

    def drop(self, key):
        self._waiting.pop(key, None)
        self._rows.pop(key, None)

    def shrink(self):
        self.num_slots //= 2
        return self.num_slots > 0

    def reset(self):
        self._waiting, self._rows = {}, {}


class MetalFamily:
    """A family of `worker.engine.family` whose model computes nothing and takes a Mac's time."""

    model = Model(name="fake", revision="0", dtype="float16")

    def __init__(
        self,
        chip,
        model="large-v3-turbo",
        memory_gib=16,
        *,
        batch=None,
        steps_ahead=None,
    ):
        self.dims, self.chip = MODELS[model], chip
        self.plan = mac_plan(memory_gib, self.dims, chip)
        ahead = self.plan.steps_ahead if steps_ahead is None else steps_ahead
        self.batch_size = batch or self.plan.batch_size
        # The larger of a batch that grows, and all that is planned for beams, is the planned one.
        encoding = self.plan.batch_size * self.plan.needs.request_bytes
        resident = self.plan.needed_bytes - encoding
        self.metal = FakeMetal(self.plan.limit_bytes, resident)
        self.stepper = MetalStepper(self.metal, chip, self.dims, self.plan.slots, ahead)
        self.computations = {Encode: Computation(self.encode, self.batch_size, PATIENCE_STEPS)}
        self.batches = []

    def encode(self, requests):
        """Hand over an encoder pass, layer by layer, each with its activations."""
        self.batches.append(len(requests))
        buffers = self.dims.n_audio_layer * BUFFERS_A_LAYER
        seconds = len(requests) * encode_s(self.chip, self.dims) / buffers
        size = 2 * self.dims.n_audio_ctx * self.dims.n_audio_state * len(requests)
        with translated_errors():
            for _ in range(buffers):
                self.metal.commit(seconds, size)
        return ["states"] * len(requests)

    def peak_memory_bytes(self):
        return self.metal.peak_bytes


class Windows:
    """A transcription of so many windows."""

    text, language, language_probability, flags = "", "en", None, []

    def __init__(self, count):
        self.count, self.segments, self.counts = count, [], Counts()

    @property
    def seconds_done(self):
        return self.counts.windows * WINDOW_S

    def requests(self, features, speech):
        for _ in range(self.count):
            yield from ask(Encode())
            yield from ask(Decode())
            self.counts.windows += 1
