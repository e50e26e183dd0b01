"""The jobs whose leases this worker holds: at work, or ended and not yet written. No Redis."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from producer.errors import (
    Cancelled,
    DeviceLost,
    Internal,
    JobTimeout,
    ScribefarmError,
    SourceUnreachable,
    WorkerLost,
)
from producer.result import Transcript
from producer.settings import Settings
from producer.source import shown_source
from worker.engine.messages import Done, Engine, Event, Opened, Progress
from worker.farm.endings import (
    Ending,
    after_attempt,
    after_breakdown,
    hand_back,
    handed_on,
    is_handed_on,
    refused,
    success,
    to_its_model,
    unexpected,
)
from worker.farm.in_flight import InFlight, Phase, read_flight
from worker.farm.job_log import traced
from worker.farm.scripts import Claim, served_models
from worker.sources.file import SourceCheck

# If the path check has not returned by then, the share counts as unreachable.
SOURCE_CHECK_S = 30.0
# An engine that has not dropped a cancelled job by then is stuck: the worker must be restarted.
CANCEL_ANSWER_S = 60.0

_log = structlog.get_logger()


@dataclass
class Held:
    """One job under a lease of ours; exactly one of `flight` and `ending` is set.

    Attributes:
        flight: The recording at work.
        ending: What is to be written to the server.
    """

    claim: Claim
    flight: InFlight | None = None
    ending: Ending | None = None


class HeldJobs:
    """Moves held jobs from path check to engine to ending.

    Every job goes start -> flight -> ending -> forget. Events, answers and cancellations for an
    execution that is not in flight any more are ignored: it was lost, cancelled or handed back.
    Each step of a job is taken over a net: whatever its own data raises ends this job alone.
    """

    def __init__(self, engine: Engine, settings: Settings, worker: str) -> None:
        self._engine, self._settings, self._worker = engine, settings, worker
        self._models = served_models(engine.model, settings.model)
        self._sources = SourceCheck(settings.audio.roots, settings.audio.path_map)
        self._held: dict[str, Held] = {}  # by execution id, in order of the claims

    def __len__(self) -> int:
        """Return the number of leases."""
        return len(self._held)

    @property
    def claims(self) -> list[Claim]:
        """Return all claims whose leases must be renewed."""
        return [each.claim for each in self._held.values()]

    @property
    def flights(self) -> list[InFlight]:
        """Return the recordings at work, oldest claim first."""
        return [each.flight for each in self._held.values() if each.flight is not None]

    @property
    def endings(self) -> list[Ending]:
        """Return what is to be written, oldest claim first."""
        return [each.ending for each in self._held.values() if each.ending is not None]

    def start(self, claim: Claim, checkpoint: bytes | None, *, draining: bool) -> None:
        """Take a claimed job and begin with the check of its path, or end it at once.

        A job that cannot be read is refused. One whose last worker died spends a try, as after a
        failed attempt. A job of another model goes to that model's queue. A worker that drains
        hands back whatever still reaches it.

        Args:
            claim: The job.
            checkpoint: What is stored under its checkpoint key.
            draining: Whether this worker takes no more work, for whatever reason.
        """
        with self._net(claim):
            self._start(claim, checkpoint, draining=draining)

    def _start(self, claim: Claim, checkpoint: bytes | None, *, draining: bool) -> None:
        try:
            flight = read_flight(claim, checkpoint)
        except ScribefarmError as error:
            ending = refused(claim, error, self._worker, self._settings.queue)
            self._held[claim.execution_id] = Held(claim, ending=ending)
            return
        self._held[claim.execution_id] = Held(claim, flight)
        if dead_worker := claim.fields["lost_worker"].decode(errors="replace"):
            lost = WorkerLost("worker", "must live until its jobs are done", dead_worker)
            self._fail(flight, lost)
        elif draining:
            self._end(flight, hand_back(flight))
        elif flight.wanted_model[0] and flight.wanted_model not in self._models:
            self._end(flight, to_its_model(flight))
        else:
            self._sources.submit(claim.execution_id, flight.job.location)

    def submit_checked(self) -> None:
        """Give the engine the recordings whose paths were found to be allowed."""
        for execution_id, verdict in self._sources.poll():
            flight = self._flight(execution_id)
            if flight is None:
                continue
            with self._net(flight.claim):
                if isinstance(verdict, ScribefarmError):
                    self._fail(flight, verdict)
                else:
                    ticket = flight.ticket(verdict)
                    flight.enter(Phase.IN_ENGINE)
                    self._engine.submit(ticket)

    def handle(self, event: Event) -> None:
        """Take from the engine that a file is open, progress, a transcript or an error."""
        flight = self._flight(event.execution_id)
        if flight is not None:
            with self._net(flight.claim):
                self._handle(flight, event)

    def _handle(self, flight: InFlight, event: Event) -> None:
        if isinstance(event, Opened):
            flight.note_opened(event.duration_s)
        elif isinstance(event, Progress):
            flight.progress.take(event)
        elif isinstance(event, Done):
            self._end(flight, self._ending_of(flight, event.transcript))
        else:
            self._fail(flight, event.error)

    def _ending_of(self, flight: InFlight, transcript: Transcript) -> Ending:
        """Return the outcome of a finished recording, or its way to another model."""
        if is_handed_on(flight, transcript):
            return handed_on(flight)
        return success(flight, transcript, self._worker, self._settings.queue)

    def enforce_deadlines(self) -> None:
        """Cancel recordings that are at work longer than they may be.

        Raises:
            Internal: the engine did not drop a cancelled recording within `CANCEL_ANSWER_S`.
        """
        for flight in self.flights:
            with self._net(flight.claim):
                self._enforce_deadline(flight)

    def cancel(self, job_or_execution_id: str, reason: str) -> None:
        """Cancel the recordings at work under this id; the reason completes "job: ..."."""
        for flight in self.flights:
            if job_or_execution_id in {flight.claim.job_id, flight.claim.execution_id}:
                self._cancel(flight, Cancelled("job", reason, flight.claim.job_id))

    def lose(self, execution_id: str) -> None:
        """Give up a job that belongs to another execution now; the engine drops it."""
        flight = self._flight(execution_id)
        if flight is not None:
            with traced(flight.claim):
                _log.warning(
                    "lease_lost", job_id=flight.claim.job_id, busy_s=round(flight.busy_s, 1)
                )
            if flight.phase is not Phase.CHECKING_SOURCE:
                lost = WorkerLost("lease", "ran out", flight.claim.job_id)
                self._engine.cancel(execution_id, lost)
        self.forget(execution_id)

    def traced(self, execution_id: str) -> contextlib.AbstractContextManager[None]:
        """Let log lines name the trace of a held job."""
        held = self._held.get(execution_id)
        return traced(held.claim) if held else contextlib.nullcontext()

    def forget(self, execution_id: str) -> None:
        """Drop a job whose ending is written, or whose lease we let run out."""
        self._held.pop(execution_id, None)

    def hand_back(self) -> None:
        """End all recordings at work by returning them to their queues."""
        for flight in self.flights:
            with self._net(flight.claim):
                self._end(flight, hand_back(flight))

    def hand_back_unopened(self) -> None:
        """Return the recordings whose files no reading thread has opened; the engine drops them.

        One that hangs in a share is ended by the engine.
        """
        for flight in self.flights:
            if flight.opened_at is None and flight.phase is not Phase.CANCELLING:
                if flight.phase is Phase.IN_ENGINE:
                    lost = WorkerLost("reading", "threads are lost to a share", self._worker)
                    self._engine.cancel(flight.claim.execution_id, lost)
                self._end(flight, hand_back(flight))

    def break_down(self, error: ScribefarmError) -> None:
        """End all recordings at work because the engine broke down with `error`.

        A lost device is no recording's fault: each is tried again, and none is a suspect.
        """
        for flight in self.flights:
            with self._net(flight.claim):
                if isinstance(error, DeviceLost):
                    self._fail(flight, error)
                    continue
                ending = after_breakdown(flight, error, self._worker, self._settings.queue)
                self._end(flight, ending)

    @contextlib.contextmanager
    def _net(self, claim: Claim) -> Iterator[None]:
        """Catch what one job's data raises unforeseen: the job ends as `internal`.

        Errors of ours pass: the steps turn those of a job into its ending, others are the engine's.
        """
        with traced(claim):
            try:
                yield
            except ScribefarmError:
                raise
            except Exception as error:  # noqa: BLE001 - the net is for what nobody foresaw
                _log.exception("job_unexpected", job_id=claim.job_id)
                self._give_up(claim, error)

    def _give_up(self, claim: Claim, error: Exception) -> None:
        flight = self._flight(claim.execution_id)
        if flight is not None and flight.phase is not Phase.CHECKING_SOURCE:
            self._engine.cancel(claim.execution_id, Internal("job", "was given up"))
        batch = flight.job.batch if flight else None
        ending = unexpected(claim, error, self._worker, self._settings.queue, batch)
        self._held[claim.execution_id] = Held(claim, ending=ending)

    def _flight(self, execution_id: str) -> InFlight | None:
        held = self._held.get(execution_id)
        return held.flight if held else None

    def _end(self, flight: InFlight, ending: Ending) -> None:
        held = self._held[flight.claim.execution_id]
        held.flight, held.ending = None, ending

    def _fail(self, flight: InFlight, error: ScribefarmError) -> None:
        self._end(flight, after_attempt(flight, error, self._worker, self._settings.queue))

    def _cancel(self, flight: InFlight, error: ScribefarmError) -> None:
        if flight.phase is Phase.CHECKING_SOURCE:
            self._fail(flight, error)
        elif flight.phase is Phase.IN_ENGINE:
            flight.enter(Phase.CANCELLING)
            self._engine.cancel(flight.claim.execution_id, error)

    def _enforce_deadline(self, flight: InFlight) -> None:
        limit_s = flight.limit_s(self._settings.worker)
        if flight.phase is Phase.CHECKING_SOURCE and flight.phase_s > SOURCE_CHECK_S:
            constraint = f"must be found within {SOURCE_CHECK_S:.0f} s"
            self._fail(
                flight, SourceUnreachable("source", constraint, shown_source(flight.job.source))
            )
        elif flight.phase is Phase.CANCELLING:
            if flight.phase_s > CANCEL_ANSWER_S:
                raise Internal("engine", f"must drop a job within {CANCEL_ANSWER_S:.0f} s")
        elif limit_s is not None and flight.worked_s > limit_s:
            constraint = f"must be done within {limit_s:.0f} s"
            self._cancel(flight, JobTimeout("job", constraint, flight.claim.job_id))
