"""A schedule over scripted transcriptions: no thread, no device, every decision seen."""

from types import SimpleNamespace

from producer.errors import OutOfMemory
from producer.job import Job
from producer.result import Audio, Model
from tests.stage.fake_family import FakeStepper
from worker.audio.read_ahead import End
from worker.engine.family import Computation, Counts
from worker.engine.memory_plan import MemoryNeeds, MemoryPlan
from worker.engine.messages import Checkpoint, Ticket
from worker.engine.requests import Batched, Rows, ask
from worker.engine.schedule import Schedule
from worker.engine.stats import EngineStats
from worker.engine.track import Track

# Far longer than anything takes here.
BEHIND_BATCH_S = 60.0


class Encode(Batched):
    """A request of the kind that waits for company."""

    def __init__(self, name):
        self.name = name


class Weigh(Encode):
    """A request whose reply is read after the next step."""


class Decode(Rows):
    """A request of the stepper's."""

    def __init__(self, name):
        self.encoder_states = (name, 0, 3000)


class Scripted:
    """A transcription that makes the requests it is given, and keeps the replies."""

    text, language, language_probability, flags, seconds_done = "", "en", None, [], 1.0

    def __init__(self, *requests):
        self.script, self.replies = requests, []
        self.segments, self.counts = [], Counts()

    def requests(self, features, speech):
        for request in self.script:
            if isinstance(request, Exception):
                raise request
            if isinstance(request, Checkpoint):
                yield request
            else:
                self.replies.append((yield from ask(request)))


class Desk:
    """A schedule over scripted transcriptions, and all that it did."""

    def __init__(self, slots=4, batch_size=2, patience=3, steps=2, parts=1):
        self.events, self.batches, self.reads, self.computed = [], [], [], []
        self.room = self.reply_room = 100
        self.parts, self.handed_over = parts, []
        self.fail_with = self.fail_reading_with = None
        self.stepper = FakeStepper(slots, steps)
        family = SimpleNamespace(
            name="scripted",
            num_vocab=0,
            model=Model(name="scripted", revision="0", dtype="float32"),
            plan=MemoryPlan(1, MemoryNeeds(0, 0, 0), slots, batch_size, receiving_s=BEHIND_BATCH_S),
            stepper=self.stepper,
            computations={
                Encode: Computation(self._encode, batch_size, patience, num_parts=parts),
                Weigh: Computation(self._weigh, batch_size),
            },
            peak_memory_bytes=lambda: 1,
        )
        self.stats = EngineStats()
        take = self.computed.append
        self.schedule = Schedule(family, self.events.append, lambda *asked: take(asked), self.stats)

    def _encode(self, requests):
        if self.fail_with:
            raise self.fail_with
        if len(requests) > self.room:
            raise OutOfMemory("device", "must have room", len(requests))
        names = [request.name for request in requests]
        self.batches.append(names)
        return names if self.parts == 1 else self._in_parts(names)

    def _in_parts(self, names):
        for number in range(self.parts):
            if len(names) > self.room:
                raise OutOfMemory("device", "must have room", len(names))
            self.handed_over.append((names, number, self.stats.steps))
            yield
        return names

    def _weigh(self, requests):
        names = [request.name for request in requests]
        self.batches.append(names)

        def read():
            if self.fail_reading_with:
                raise self.fail_reading_with
            if len(names) > self.reply_room:
                raise OutOfMemory("device", "must have room", len(names))
            self.reads.append((names, self.stats.steps))
            return names

        return read

    def begin(self, name, *requests):
        transcription = Scripted(*requests)
        reading = SimpleNamespace(stop=lambda: None)
        features = SimpleNamespace(finish=lambda: None)
        ticket = Ticket(name, f"job-{name}", Job(source=name))
        track = Track(ticket, transcription, features, reading)
        self.schedule.add(track)
        audio = Audio(duration_s=2.0, sample_rate_hz=16_000, channels=1, format="x")
        track.begin(End(audio, 0.1))
        self.schedule.advance(track)
        return track

    def turns(self, count):
        for _ in range(count):
            self.schedule.turn()
