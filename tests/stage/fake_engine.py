"""A fake fast decoder behind the engine's protocol: real threads, real progress, no model.

A recording is described by its source, as a query: `fake:?windows=4&window_s=0.01`. Its text is a
function of its name alone, so every result can be checked, also after a resume on another worker.

- `windows`: how many windows it has; one word each.
- `window_s`: seconds of work a window.
- `error=CODE`: ends with that error, at window `error_at` (default 0).
- `once=1`: the error does not come again in an attempt that resumed.
- `crash_at=N`: the process kills itself (SIGKILL) at window N: a poison recording.
- `hang=1`: never answers, not even to `cancel`.
- `sha256=HASH`: the hash of what it holds.
- `drift=MODEL`: a worker of that model writes another language than it was asked for.
"""

import contextlib
import hashlib
import os
import queue
import signal
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from producer.errors import ERRORS, ScribefarmError
from producer.job import Job
from producer.result import LANGUAGE_DRIFT, Audio, Model, Segment, Timing, Transcript
from worker.engine.messages import (
    Checkpoint,
    Done,
    EngineFigures,
    Event,
    Failed,
    Opened,
    Progress,
    Ticket,
)

WINDOW_AUDIO_S = 30.0
MODEL = Model(name="fake", revision="0", dtype="float32")


def source(name: str, **options: float | str) -> str:
    """Return the source of a fake recording."""
    query = "&".join(f"{key}={value}" for key, value in options.items())
    return f"fake:{name}?{query}"


def word(name: str, window: int) -> str:
    """Return the text of one window."""
    return f" {name}-{window}"


def expected_text(job_source: str) -> str:
    """Return the whole text that a fake recording must give."""
    recording = Recording.parse(job_source)
    return "".join(word(recording.name, window) for window in range(recording.windows))


@dataclass(frozen=True)
class Recording:
    name: str
    windows: int = 3
    window_s: float = 0.005
    error: str = ""
    error_at: int = 0
    once: bool = False
    crash_at: int = -1
    hang: bool = False
    sha256: str | None = None
    drift: str = ""

    @classmethod
    def parse(cls, job_source: str) -> "Recording":
        parts = urlsplit(job_source)
        options = {key: values[0] for key, values in parse_qs(parts.query).items()}
        return cls(
            name=parts.path,
            windows=int(options.get("windows", 3)),
            window_s=float(options.get("window_s", 0.005)),
            error=options.get("error", ""),
            error_at=int(options.get("error_at", 0)),
            once=bool(options.get("once", "")),
            crash_at=int(options.get("crash_at", -1)),
            hang=bool(options.get("hang", "")),
            sha256=options.get("sha256"),
            drift=options.get("drift", ""),
        )


@dataclass
class _Row:
    ticket: Ticket
    recording: Recording
    checkpoint: Checkpoint
    ready_at: float
    windows_here: int = 0
    cancelled: ScribefarmError | None = None


@dataclass
class FakeEngine:
    """Steps all recordings in one thread; each window takes its own time, all side by side."""

    capacity: int = 8
    model: Model = MODEL
    seen: list[Ticket] = field(default_factory=list)
    num_lost_threads: int = 0
    can_read: bool = True

    def __post_init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._steps = (0, 0, 0.0)
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._broken: ScribefarmError | None = None
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self._thread.start()

    @property
    def figures(self) -> EngineFigures:
        """Return a step a window: all recordings that are there are its rows."""
        steps, row_steps, step_s = self._steps
        return EngineFigures("fake", self.capacity, steps, row_steps, step_s)

    def submit(self, ticket: Ticket) -> None:
        recording = Recording.parse(ticket.job.source)
        row = _Row(
            ticket,
            recording,
            ticket.checkpoint or Checkpoint(),
            time.monotonic() + recording.window_s,
        )
        with self._lock:
            self.seen.append(ticket)
            self._rows[ticket.execution_id] = row
        self._events.put(Opened(ticket.execution_id, None))
        self._wake.set()

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        with self._lock:
            row = self._rows.get(execution_id)
            if row is not None and not row.recording.hang:
                row.cancelled = error
        self._wake.set()

    def poll(self, timeout_s: float) -> list[Event]:
        events: list[Event] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        if not events and self._broken is not None:
            raise self._broken
        return events

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        self._thread.join()

    def break_down(self, error: ScribefarmError) -> None:
        """Raise `error` from every poll after the events so far; nothing ends any more."""
        self._broken = error
        self._stopped.set()
        self._wake.set()

    @property
    def in_flight(self) -> int:
        with self._lock:
            return len(self._rows)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            with self._lock:
                rows = list(self._rows.values())
            now = time.monotonic()
            for row in rows:
                if row.cancelled is not None or row.ready_at <= now:
                    self._step(row)
            with self._lock:
                waits = [row.ready_at for row in self._rows.values() if not row.recording.hang]
            delay = max(0.0, min(waits, default=now + 1.0) - time.monotonic())
            self._wake.wait(delay)

    def _step(self, row: _Row) -> None:
        if row.recording.hang:
            return
        steps, row_steps, step_s = self._steps
        num_rows = len(self._rows)
        self._steps = (steps + 1, row_steps + num_rows, step_s + row.recording.window_s)
        ended = self._window(row)
        if ended is not None:
            with self._lock:
                del self._rows[row.ticket.execution_id]
            self._events.put(ended)
        row.ready_at = time.monotonic() + row.recording.window_s

    def _window(self, row: _Row) -> Event | None:
        execution_id, recording = row.ticket.execution_id, row.recording
        if row.cancelled is not None:
            return Failed(execution_id, row.cancelled)
        window = len(row.checkpoint.segments)
        if window == recording.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        is_over = recording.once and row.ticket.checkpoint is not None
        if recording.error and window >= recording.error_at and not is_over:
            return Failed(execution_id, ERRORS[recording.error]("fake", "was told to fail", window))
        if window >= recording.windows:
            return Done(execution_id, _transcript(row, self.model))
        row.checkpoint = _advanced(row.checkpoint, recording, window, self.model)
        row.windows_here += 1
        if window + 1 == recording.windows:
            return Done(execution_id, _transcript(row, self.model))
        done_s, total_s = (window + 1) * WINDOW_AUDIO_S, recording.windows * WINDOW_AUDIO_S
        self._events.put(Progress(execution_id, done_s, total_s, row.checkpoint))
        return None


def _advanced(
    checkpoint: Checkpoint, recording: Recording, window: int, model: Model
) -> Checkpoint:
    segment = Segment(
        id=window,
        seek=window * 3000,
        start=window * WINDOW_AUDIO_S,
        end=(window + 1) * WINDOW_AUDIO_S,
        text=word(recording.name, window),
        tokens=[window],
        # A model that drifts is of the family without these figures.
        temperature=None if recording.drift else 0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=None if recording.drift else 0.0,
        confidence=0.9 if recording.drift else None,
        flags=[LANGUAGE_DRIFT] if recording.drift == model.name else [],
    )
    return Checkpoint(segments=(*checkpoint.segments, segment), language="en")


def _transcript(row: _Row, model: Model) -> Transcript:
    segments = list(row.checkpoint.segments)
    duration_s = row.recording.windows * WINDOW_AUDIO_S
    return Transcript(
        job_id=row.ticket.job_id,
        source=row.ticket.job.source,
        text="".join(segment.text for segment in segments),
        language="en",
        segments=segments,
        audio=Audio(
            duration_s=duration_s,
            sample_rate_hz=16000,
            channels=1,
            format="fake",
            sha256=row.recording.sha256,
        ),
        model=model,
        timing=Timing(windows=row.windows_here, generated_tokens=row.windows_here),
        flags=sorted({flag for segment in segments for flag in segment.flags}),
    )


def job(name: str, **options: float | str) -> Job:
    """Return a job over a fake recording."""
    content = f"{name}{sorted(options.items())}".encode()
    return Job(source=source(name, **options), audio_sha256=hashlib.sha256(content).hexdigest())
