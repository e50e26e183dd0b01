"""7. A new family of models is one folder, and one line of `MODELS` (recipe: worker/README.md).

It brings features that take samples, a transcription that asks, and a computation that answers many
at once; files, threads, batches and errors are the engine's. This one hears only lengths.
"""

from types import SimpleNamespace

from producer.job import Job
from producer.result import Model
from producer.settings import Settings
from worker.engine.engine import BatchEngine
from worker.engine.family import Computation, Counts
from worker.engine.memory_plan import MemoryNeeds
from worker.engine.messages import Done, Ticket
from worker.engine.requests import Batched, ask
from worker.models import MODELS
from worker.models.load import load_family
from worker.models.packaged import Listed


class Measure(Batched[str]):
    num_samples, finish = 0, lambda _: None

    def push(self, samples):
        self.num_samples += len(samples)


class Transcription(SimpleNamespace):
    def requests(self, features, speech):
        self.text = yield from ask(features)


class LengthFamily:
    model = Model(name="toy-length", revision="1", dtype="float32")
    needs, stepper = MemoryNeeds(weights_bytes=0, row_bytes=0, request_bytes=1), None
    check, rehearsal, peak_memory_bytes = lambda *_: None, lambda _: None, lambda _: 0
    features = lambda _: Measure()  # noqa: E731

    def transcription(self, options, checkpoint):
        heard = {"language": "en", "language_probability": None, "flags": [], "segments": []}
        return Transcription(counts=Counts(windows=1), **heard)

    def pin(self, plan):
        self.plan, self.computations = plan, {Measure: Computation(self.measure, plan.batch_size)}

    def measure(self, requests):
        return [f"{each.num_samples / 16_000:.1f} seconds" for each in requests]


load = lambda _settings: LengthFamily()  # noqa: E731


def test_a_family_of_a_few_lines_transcribes(write_wav, monkeypatch):
    monkeypatch.setitem(MODELS, "toy-length", Listed(family=__name__, requirement="nothing"))
    engine = BatchEngine(Settings(model={"name": "toy-length"}), load_family)
    engine.submit(Ticket("1", "job-1", Job(source=str(write_wav(num_samples=40_000)))))
    events = []
    while not (events and isinstance(events[-1], Done)):
        events += engine.poll(20.0)
    engine.stop()
    (_opened, done) = events
    assert done.transcript.text == "2.5 seconds"
