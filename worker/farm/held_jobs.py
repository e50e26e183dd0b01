"""The jobs whose leases this worker holds: at work, or ended and not yet written. No Redis."""

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
from producer.settings import Settings
from worker.engine.messages import Done, Engine, Event, Progress
from worker.farm.endings import (
    Ending,
    after_attempt,
    after_breakdown,
    hand_back,
    refused,
    success,
    to_its_model,
)
from worker.farm.in_flight import InFlight, Phase, read_flight
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
        refusals: Commits of the ending that the server refused, not counting outages.
    """

    claim: Claim
    flight: InFlight | None = None
    ending: Ending | None = None
    refusals: int = 0


class HeldJobs:
    """Moves held jobs from path check to engine to ending.

    Every job goes start -> flight -> ending -> forget. Events, answers and cancellations for an
    execution that is not in flight any more are ignored: it was lost, cancelled or handed back.
    """

    def __init__(self, engine: Engine, settings: Settings, worker: str) -> None:
        self._engine, self._settings, self._worker = engine, settings, worker
        self._models = served_models(engine.model, settings.model)
        self._sources = SourceCheck(settings.audio.roots)
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
        """Return what is to be written, oldest claim first; refused commits come last."""
        return [each.ending for each in self._held.values() if each.ending is not None]

    def start(self, claim: Claim, checkpoint: bytes | None, *, draining: bool) -> None:
        """Take a claimed job and begin with the check of its path, or end it at once.

        A job that cannot be read is refused. One whose last worker died spends a try, as after a
        failed attempt. A job of another model goes to that model's queue. A worker that drains
        hands back whatever still reaches it.

        Args:
            claim: The job.
            checkpoint: What is stored under its checkpoint key.
            draining: Whether this worker takes no more work.
        """
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
        elif flight.job.model and (flight.job.model, flight.job.revision) not in self._models:
            self._end(flight, to_its_model(flight))
        else:
            self._sources.submit(claim.execution_id, str(flight.job.path))

    def submit_checked(self) -> None:
        """Give the engine the recordings whose paths were found to be allowed."""
        for execution_id, verdict in self._sources.poll():
            flight = self._flight(execution_id)
            if flight is None:
                continue
            if isinstance(verdict, ScribefarmError):
                self._fail(flight, verdict)
            else:
                flight.enter(Phase.IN_ENGINE)
                self._engine.submit(flight.ticket(verdict))

    def handle(self, event: Event) -> None:
        """Take progress, a transcript or an error from the engine."""
        flight = self._flight(event.execution_id)
        if flight is None:
            return
        if isinstance(event, Progress):
            flight.progress.take(event)
        elif isinstance(event, Done):
            ending = success(flight, event.transcript, self._worker, self._settings.queue)
            self._end(flight, ending)
        else:
            self._fail(flight, event.error)

    def enforce_deadlines(self) -> None:
        """Cancel recordings that are at work longer than they may be.

        Raises:
            Internal: the engine did not drop a cancelled recording within `CANCEL_ANSWER_S`.
        """
        for flight in self.flights:
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
            _log.warning("lease_lost", job_id=flight.claim.job_id, busy_s=round(flight.busy_s, 1))
            if flight.phase is not Phase.CHECKING_SOURCE:
                lost = WorkerLost("lease", "ran out", flight.claim.job_id)
                self._engine.cancel(execution_id, lost)
        self.forget(execution_id)

    def forget(self, execution_id: str) -> None:
        """Drop a job whose ending is written, or whose lease we let run out."""
        self._held.pop(execution_id, None)

    def note_refusal(self, execution_id: str) -> int:
        """Note that the server refused to store an ending; return how often it has by now.

        The ending goes behind the others, so that they are written first.
        """
        held = self._held[execution_id] = self._held.pop(execution_id)
        held.refusals += 1
        return held.refusals

    def hand_back(self) -> None:
        """End all recordings at work by returning them to their queues."""
        for flight in self.flights:
            self._end(flight, hand_back(flight))

    def break_down(self, error: ScribefarmError) -> None:
        """End all recordings at work because the engine broke down with `error`.

        A lost device is no recording's fault: each is tried again, and none is a suspect.
        """
        for flight in self.flights:
            if isinstance(error, DeviceLost):
                self._fail(flight, error)
                continue
            ending = after_breakdown(flight, error, self._worker, self._settings.queue)
            self._end(flight, ending)

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
            self._fail(flight, SourceUnreachable("source", constraint, flight.job.source))
        elif flight.phase is Phase.CANCELLING:
            if flight.phase_s > CANCEL_ANSWER_S:
                raise Internal("engine", f"must drop a job within {CANCEL_ANSWER_S:.0f} s")
        elif limit_s is not None and flight.busy_s > limit_s:
            constraint = f"must be done within {limit_s:.0f} s"
            self._cancel(flight, JobTimeout("job", constraint, flight.claim.job_id))
