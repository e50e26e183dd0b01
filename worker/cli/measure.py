"""What this machine gives: speed of its parts, and of the whole engine over a workload."""

import dataclasses
import importlib.metadata
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import mlx.core as mx
import numpy as np
import soundfile

from producer.job import Job, Options
from producer.result import Model, Transcript
from producer.settings import Settings
from worker.audio.recording import SAMPLE_RATE_HZ, load_audio
from worker.cli.machine import blas_library, peak_resident_bytes
from worker.engine.engine import BatchEngine
from worker.engine.family import Computation, Family, Replies, handed_over
from worker.engine.memory_plan import MemoryPlan
from worker.engine.messages import Done, Event, Failed, Ticket
from worker.models.load import load_family

# Ten seconds of real speech (MIT) in useful-moonshine-onnx, which every clone has.
CLIP_PACKAGE, CLIP_PATH = "moonshine_onnx", "assets/beckett.wav"
# Repeated this often, the clip fills one window. Its last half second, all silence, stays out: with it
# the model hears the end of the third time over and over.
CLIP_REPEATS = 3
CLIP_TAIL_SAMPLES = SAMPLE_RATE_HZ // 2
POLL_S = 0.2

OnEvent = Callable[[Event], None]


class EncoderClock:
    """Waits for every batch of the encoder, so that its time is told from the decoder's.

    The wait costs about one step of host work for each batch.

    Attributes:
        encoder_s: Seconds that the encoder took, while nothing else ran.
        before_encode_s: Seconds that earlier work, most of it steps, took before that.
    """

    def __init__(self) -> None:
        self.encoder_s = self.before_encode_s = 0.0

    def measured(self, computation: Computation) -> Computation:
        """Return a computation that is waited for from start to end, and counted."""

        def start(requests: list[Any]) -> Replies:
            started = time.perf_counter()
            mx.synchronize()
            before = time.perf_counter()
            replies = handed_over(computation.start(requests))
            mx.synchronize()  # whatever a family's replies are
            self.before_encode_s += before - started
            self.encoder_s += time.perf_counter() - before
            return replies

        return dataclasses.replace(computation, start=start)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the engine did over a workload, and where its thread's time went.

    Attributes:
        num_recordings: Recordings transcribed; `failures` are not among them.
        load_s: Loading, checking, pinning and warming up the model.
        wall_s: From the first recording in to the last one out; the load is not in it.
        steps: Decoder steps; `row_steps` counts the rows that they advanced.
        encoder_s: The encoder ran.
        decoder_s: The engine's thread waited for prefill, steps and what else is on the device.
        host_s: It worked itself, or waited for the processor.
        idle_s: It had nothing to do.
        peak_device_bytes: Most memory of MLX at once.
        peak_resident_bytes: Most memory of the process at once.
        latencies_s: From a recording's turn to its text, by its number in the workload.
        texts: By the same number.
        blas: The library that multiplied matrices.
    """

    model: Model
    slots: int
    encode_batch: int
    num_recordings: int
    failures: list[str]
    audio_s: float
    load_s: float
    wall_s: float
    windows: int
    tokens: int
    steps: int
    row_steps: int
    encoder_s: float
    decoder_s: float
    host_s: float
    idle_s: float
    peak_device_bytes: int
    peak_resident_bytes: int
    latencies_s: dict[int, float]
    texts: dict[int, str]
    blas: str

    @property
    def audio_s_per_s(self) -> float:
        """Times real time."""
        return self.audio_s / self.wall_s

    @property
    def rows_per_step(self) -> float:
        """Mean rows that a step advanced."""
        return self.row_steps / max(1, self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the texts and the machine as JSON types, with the rates."""
        stored = dataclasses.asdict(self) | {"model": self.model.model_dump()}
        del stored["texts"], stored["latencies_s"], stored["blas"]
        return stored | {
            "audio_s_per_s": self.audio_s_per_s,
            "windows_per_s": self.windows / self.wall_s,
            "tokens_per_s": self.tokens / self.wall_s,
            "rows_per_step": self.rows_per_step,
            "occupancy": self.rows_per_step / self.slots,
        }


class Workbench:
    """An engine with a measured device: loaded once, for any number of workloads.

    Raises:
        ScribefarmError: the model cannot be loaded, or does not fit.
    """

    def __init__(self, settings: Settings) -> None:
        self._read_as = settings.audio.for_job()
        self._blas = blas_library(settings)
        self._encoder = EncoderClock()
        started = time.perf_counter()
        self.engine = BatchEngine(settings, self._load)
        self.load_s = time.perf_counter() - started

    @property
    def plan(self) -> MemoryPlan:
        """How memory is shared out."""
        return self._family.plan

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.engine.stop()

    def run(
        self,
        sources: Sequence[Path],
        options: Options,
        *,
        seconds: float | None = None,
        on_event: OnEvent = lambda _event: None,
    ) -> Measurement:
        """Transcribe the sources together, once each; or over and over for about `seconds`.

        What was begun by then is finished, and counts.

        Raises:
            ScribefarmError: the engine itself broke; what is wrong with a recording is counted.
        """
        before = self._figures()
        mx.reset_peak_memory()
        started = time.perf_counter()
        outcomes = list(self._outcomes(self._tickets(sources, options, seconds), on_event))
        wall_s = time.perf_counter() - started
        spent = {name: value - before[name] for name, value in self._figures().items()}
        done = [(each, s) for each, s in outcomes if isinstance(each, Done)]
        transcripts = [each.transcript for each, _ in done]
        decoder_s = spent["device_wait_s"] + spent["before_encode_s"]
        host_s = wall_s - spent["encoder_s"] - decoder_s - spent["idle_s"]
        return Measurement(
            model=self.engine.model,
            slots=self.plan.slots,
            encode_batch=self.plan.batch_size,
            num_recordings=len(done),
            failures=[str(each.error) for each, _ in outcomes if isinstance(each, Failed)],
            audio_s=sum(transcript.audio.duration_s for transcript in transcripts),
            load_s=self.load_s,
            wall_s=wall_s,
            windows=_total(transcripts, "windows"),
            tokens=_total(transcripts, "generated_tokens"),
            steps=int(spent["steps"]),
            row_steps=int(spent["row_steps"]),
            encoder_s=spent["encoder_s"],
            decoder_s=decoder_s,
            host_s=max(0.0, host_s),
            idle_s=spent["idle_s"],
            peak_device_bytes=self._family.peak_memory_bytes(),
            peak_resident_bytes=peak_resident_bytes(),
            latencies_s={int(each.execution_id): s for each, s in done},
            texts={int(each.execution_id): each.transcript.text for each, _ in done},
            blas=self._blas,
        )

    def _load(self, settings: Settings) -> Family:
        """Load the model; runs in the engine's thread."""
        family = load_family(settings)
        family.computations = {
            kind: self._encoder.measured(each) if each.patience_steps else each
            for kind, each in family.computations.items()
        }
        self._family = family
        return family

    def _figures(self) -> dict[str, float]:
        """Return where the time went so far, the encoder's apart."""
        return self.engine.stats.figures() | vars(self._encoder)

    def _tickets(
        self, sources: Sequence[Path], options: Options, seconds: float | None
    ) -> Iterator[Ticket]:
        """Yield every source once, and then again until the time is over; ids count from 0."""
        deadline = time.perf_counter() + (seconds or 0.0)
        for number, source in enumerate(itertools.cycle(sources)):
            if number >= len(sources) and time.perf_counter() >= deadline:
                return
            job = Job(source=str(source), options=options, audio=self._read_as)
            yield Ticket(str(number), str(number), job)

    def _outcomes(
        self, tickets: Iterator[Ticket], on_event: OnEvent
    ) -> Iterator[tuple[Done | Failed, float]]:
        """Yield how each ended, and seconds since it was submitted; the engine is kept full."""
        begun: dict[str, float] = {}
        while True:
            for ticket in itertools.islice(tickets, self.engine.capacity - len(begun)):
                begun[ticket.execution_id] = time.perf_counter()
                self.engine.submit(ticket)
            if not begun:
                return
            for event in self.engine.poll(POLL_S):
                on_event(event)
                if isinstance(event, Done | Failed):
                    yield event, time.perf_counter() - begun.pop(event.execution_id)


def clip() -> Path | None:
    """Return the packaged recording of speech, if its package is installed."""
    spec = importlib.util.find_spec(CLIP_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / CLIP_PATH
    return path if path.is_file() else None


def write_window(path: Path, source: Path) -> None:
    """Write the clip `CLIP_REPEATS` times in a row: it fills one window."""
    samples, _ = load_audio(str(source))
    repeated = np.tile(samples[:-CLIP_TAIL_SAMPLES], CLIP_REPEATS)
    soundfile.write(path, repeated, SAMPLE_RATE_HZ, subtype="PCM_16")


def write_noise(path: Path, seconds: float) -> None:
    """Write faint noise: a window of work for a machine without the packaged speech."""
    noise = np.random.default_rng(0).normal(0.0, 0.01, int(seconds * SAMPLE_RATE_HZ))
    soundfile.write(path, noise, SAMPLE_RATE_HZ, subtype="PCM_16")


def _total(transcripts: list[Transcript], name: str) -> int:
    return sum(getattr(transcript.timing, name) for transcript in transcripts)
