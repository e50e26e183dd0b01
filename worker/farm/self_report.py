"""What a worker says of itself with each heartbeat: how fast it is, what it has, what went wrong."""

import importlib.metadata
import resource
import sys
import time
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from producer.console import one_line
from producer.plain_json import as_text
from producer.result import ErrorRecord, Failure
from producer.settings import Settings
from producer.source import shown_source
from producer.worker_records import (
    MAX_LABEL,
    MAX_MESSAGE,
    MAX_NAME,
    MAX_QUEUES,
    MAX_RECORDINGS,
    LastError,
    WorkerFacts,
)
from worker.engine.messages import Done, Engine, Event, Failed, Opened, Progress
from worker.farm.endings import Outcome
from worker.farm.hours import Hours
from worker.farm.in_flight import InFlight

# Speeds are of the last minutes: long enough to be steady, short enough to show a sick machine.
WINDOW_S = 300.0


class Moment(NamedTuple):
    """Sums since the start, at one heartbeat."""

    at: float
    audio_s: float
    busy_s: float
    steps: int
    row_steps: int
    step_s: float


class SelfReport:
    """Adds up what a worker does, in the farm's thread.

    Args:
        engine: The worker's.
        settings: Of the farm.
        queues: That it serves.
    """

    def __init__(self, engine: Engine, settings: Settings, queues: Collection[str]) -> None:
        self._engine, self._settings = engine, settings
        self._queues = tuple(queue[:MAX_LABEL] for queue in queues)[:MAX_QUEUES]
        self._started_at_s = time.time()
        self._version = importlib.metadata.version("scribefarm")
        self._audio_s = self._busy_s = 0.0
        self._turned_at = time.monotonic()
        self._done_s: dict[str, float] = {}  # by execution id, of recordings in the engine
        self._num_succeeded = self._num_failed = 0
        self._last_error: LastError | None = None
        self._moments: deque[Moment] = deque([self._moment()])

    def turn(self, *, has_work: bool) -> None:
        """Count the time since the last turn of the farm's loop."""
        now = time.monotonic()
        if has_work:
            self._busy_s += now - self._turned_at
        self._turned_at = now

    def take(self, event: Event, flights: Collection[InFlight]) -> None:
        """Count the audio that the engine reports as done; of a resumed recording only the rest."""
        key = event.execution_id
        match event:
            case Opened():
                self._done_s[key] = _resumed_s(key, flights)
            case Progress() if key in self._done_s:
                self._add_audio(key, event.seconds_done)
            case Done() if key in self._done_s:
                self._add_audio(key, event.transcript.audio.duration_s)
                del self._done_s[key]
            case Failed():
                self._done_s.pop(key, None)

    def take_end(self, outcome: Outcome) -> None:
        """Count a job's end."""
        if isinstance(outcome.result, Failure):
            self._num_failed += 1
            self.take_error(outcome.result.error)
        else:
            self._num_succeeded += 1

    def take_error(self, error: ErrorRecord) -> None:
        """Keep the error of a recording's attempt."""
        message = one_line(as_text(error.message, MAX_MESSAGE))[:MAX_MESSAGE]
        self._last_error = LastError(code=error.code, message=message, at_s=time.time())

    def facts(
        self, flights: Collection[InFlight], hours: Hours, *, is_draining: bool
    ) -> WorkerFacts:
        """Return what there is to say now."""
        held = {flight.claim.execution_id for flight in flights}
        self._done_s = {key: done_s for key, done_s in self._done_s.items() if key in held}
        figures, model, section = self._engine.figures, self._engine.model, self._settings.worker
        return WorkerFacts(
            queues=self._queues,
            family=figures.family,
            model=as_text(model.name, MAX_LABEL),
            revision=as_text(model.revision, MAX_LABEL),
            dtype=model.dtype,
            version=self._version,
            lease_s=section.lease_s,
            capacity=self._engine.capacity,
            in_flight=len(flights),
            slots=figures.slots,
            memory_bytes=figures.memory_bytes,
            memory_limit_bytes=figures.memory_limit_bytes,
            resident_bytes=_peak_resident_bytes(),
            lost_threads=self._engine.num_lost_threads,
            recordings=tuple(map(_shown, list(flights)[:MAX_RECORDINGS])),
            last_error=self._last_error,
            started_at_s=self._started_at_s,
            num_succeeded=self._num_succeeded,
            num_failed=self._num_failed,
            active_hours=hours.shown,
            sleeps_until_s=hours.sleeps_until_s,
            works_until_s=hours.works_until_s,
            is_draining=is_draining,
            bench_audio_s_per_s=section.bench_speed,
            **self._recent(),
        )

    def _recent(self) -> dict[str, float]:
        """Return the rates of the last minutes; what did not happen in them is left out."""
        now = self._moment()
        self._moments.append(now)
        while self._moments[0].at < now.at - WINDOW_S:
            self._moments.popleft()
        first = self._moments[0]
        busy_s, steps = now.busy_s - first.busy_s, now.steps - first.steps
        rates = {}
        if busy_s > 0:
            rates["audio_s_per_s"] = round((now.audio_s - first.audio_s) / busy_s, 3)
        if steps > 0:
            rates["rows"] = round((now.row_steps - first.row_steps) / steps, 2)
            rates["step_s"] = round((now.step_s - first.step_s) / steps, 6)
        return rates

    def _moment(self) -> Moment:
        figures = self._engine.figures
        return Moment(
            time.monotonic(),
            self._audio_s,
            self._busy_s,
            figures.steps,
            figures.row_steps,
            figures.step_s,
        )

    def _add_audio(self, key: str, done_s: float) -> None:
        self._audio_s += max(0.0, done_s - self._done_s[key])
        self._done_s[key] = max(done_s, self._done_s[key])


def _resumed_s(execution_id: str, flights: Collection[InFlight]) -> float:
    """Return the seconds that another attempt had done of a recording."""
    checkpoints = (
        flight.checkpoint_before for flight in flights if flight.claim.execution_id == execution_id
    )
    checkpoint = next(checkpoints, None)
    return max((segment.end for segment in checkpoint.segments), default=0.0) if checkpoint else 0.0


def _shown(flight: InFlight) -> str:
    """Return what a recording is called, in one line and without secrets."""
    named = shown_source(flight.job.name or flight.job.source)
    return one_line(as_text(named, MAX_NAME))[:MAX_NAME]


def _peak_resident_bytes() -> int:
    """Return the most memory of this process at once; macOS counts bytes, Linux kilobytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
