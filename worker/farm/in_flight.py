"""One claimed recording from its claim to its end, as the farm worker sees it."""

import math
import time
from dataclasses import dataclass, field, replace

from rq.job import JobStatus

from producer.errors import Cancelled, ScribefarmError, WorkerLost
from producer.job import Job
from producer.result import ErrorRecord, Failure, Transcript
from producer.settings import Settings
from worker.engine.messages import Checkpoint, Progress, Ticket
from worker.farm.commit import Outcome
from worker.farm.job_hash import (
    Terms,
    dump_checkpoint,
    error_record,
    read_attempts,
    read_checkpoint,
    read_history,
    read_job,
    read_terms,
    waited_s,
)
from worker.farm.retries import Again, History, after_failure
from worker.farm.scripts import Claim, Release

# Enough for a person to see where a recording is; the checkpoint has all of it.
PROGRESS_TEXT_CHARS = 2000


@dataclass
class InFlight:
    """A recording in the engine.

    Attributes:
        checkpoint_before: Where the last attempt stood.
        is_in_engine: The engine has it; until then its path is being checked.
        started: Monotonic time of the claim.
        history: What went wrong before; cleared once the recording makes progress.
        progress: The last window's report, whether stored or not.
        is_dirty: There is progress that the server does not have.
        stored, checkpointed: Monotonic times of the last writes.
        cancelled: Monotonic time at which the engine was asked to drop it.
    """

    claim: Claim
    job: Job
    terms: Terms
    checkpoint_before: Checkpoint | None = None
    started: float = field(default_factory=time.monotonic)
    history: History = field(default_factory=History)
    progress: Progress | None = None
    is_dirty: bool = False
    stored: float = -math.inf
    checkpointed: float = -math.inf
    cancelled: float | None = None
    is_in_engine: bool = False

    @property
    def is_suspect(self) -> bool:
        """True while the recording may be what killed its last worker."""
        return self.history.deaths > 0

    @property
    def busy_s(self) -> float:
        """Seconds since the claim."""
        return time.monotonic() - self.started

    def limit_s(self, settings: Settings) -> float | None:
        """Return the seconds the job may run; None is no limit. Known better with each window."""
        asked_s = self.terms.timeout_s
        if asked_s is not None:
            return None if asked_s < 0 else asked_s
        duration_s = self.progress.duration_s if self.progress else 0.0
        section = settings.worker
        return max(section.min_deadline_s, section.deadline_factor * duration_s)

    def ticket(self, path: str) -> Ticket:
        """Return what the engine gets; it goes on where the last attempt stood."""
        job = self.job.model_copy(update={"source": path})
        return Ticket(self.claim.execution_id, self.claim.job_id, job, self.checkpoint_before)

    def note(self, progress: Progress) -> None:
        """Take a window's report."""
        self.progress, self.is_dirty = progress, True

    def note_stored(self, *, with_checkpoint: bool) -> None:
        """The server has the progress; a stored checkpoint wipes earlier failures off."""
        self.is_dirty, self.stored = False, time.monotonic()
        if with_checkpoint:
            self.checkpointed = self.stored
            self.history = replace(self.history, tries=0, deaths=0)

    def checkpoint(self) -> str:
        """Return the JSON to resume from, "" before the first window."""
        return dump_checkpoint(self.progress.checkpoint) if self.progress else ""

    def progress_fields(self, worker: str) -> dict[str, str]:
        """Return the progress hash as it is stored."""
        if self.progress is None:
            return {}
        text = "".join(segment.text for segment in self.progress.checkpoint.segments)
        return {
            "seconds_done": f"{self.progress.seconds_done:.3f}",
            "duration_s": f"{self.progress.duration_s:.3f}",
            "text": text[-PROGRESS_TEXT_CHARS:].strip(),
            "worker": worker,
        }


def success(flight: InFlight, transcript: Transcript, worker: str, settings: Settings) -> Outcome:
    """Return the outcome of a finished recording, with what only the farm knows filled in."""
    timing = transcript.timing.model_copy(update={"queue_s": round(waited_s(flight.claim), 3)})
    filled = {
        "job_id": flight.claim.job_id,
        "source": flight.job.source,
        "metadata": flight.job.metadata,
        "worker": worker,
        "timing": timing,
    }
    return Outcome(
        claim=flight.claim,
        result=transcript.model_copy(update=filled),
        status=JobStatus.FINISHED,
        ttl_s=flight.terms.result_ttl_s or settings.queue.result_ttl_s,
        worker=worker,
        busy_s=flight.busy_s,
        batch=flight.job.batch,
    )


def failure(
    claim: Claim,
    error: ScribefarmError,
    worker: str,
    settings: Settings,
    *,
    job: Job | None = None,
    terms: Terms | None = None,
    attempt: ScribefarmError | None = None,
    busy_s: float = 0.0,
) -> Outcome:
    """Return the outcome of a job that ends without text.

    Args:
        claim: The job.
        error: What it ends with.
        worker: Who says so.
        settings: For how long it is kept.
        job: What was asked, if that could be read.
        terms: Times that the RQ job asks for, if they could be read.
        attempt: What went wrong last, where that is not `error` itself.
        busy_s: Seconds since the claim.
    """
    attempts = [*read_attempts(claim), ErrorRecord(**(attempt or error).to_dict())]
    result = Failure.from_error(
        claim.job_id,
        error,
        source=job.source if job else "",
        metadata=job.metadata if job else {},
        attempts=attempts,
        worker=worker,
    )
    return Outcome(
        claim=claim,
        result=result,
        status=JobStatus.STOPPED if isinstance(error, Cancelled) else JobStatus.FAILED,
        ttl_s=(terms.failure_ttl_s if terms else None) or settings.queue.result_ttl_s,
        worker=worker,
        busy_s=busy_s,
        batch=job.batch if job else None,
    )


def after_attempt(
    flight: InFlight, error: ScribefarmError, worker: str, settings: Settings
) -> Outcome | Release:
    """Return what to do with a recording whose attempt failed: end it or give it back."""
    verdict = after_failure(error, flight.history, settings.queue)
    if isinstance(verdict, Again):
        return Release(
            flight.claim.job_id,
            flight.claim.execution_id,
            flight.claim.queue,
            delay_s=verdict.delay_s,
            at_front=True,
            record=error_record(error),
            checkpoint=flight.checkpoint(),
        )
    return failure(
        flight.claim,
        verdict,
        worker,
        settings,
        job=flight.job,
        terms=flight.terms,
        attempt=error,
        busy_s=flight.busy_s,
    )


def after_breakdown(
    flight: InFlight, error: ScribefarmError, worker: str, settings: Settings
) -> Outcome | Release:
    """Return what to do with a recording that was there when the engine broke down."""
    history = replace(flight.history, deaths=flight.history.deaths + 1)
    lost = WorkerLost("engine", f"broke down: {error}", worker)
    ending = after_attempt(replace(flight, history=history), lost, worker, settings)
    return ending._replace(died=True) if isinstance(ending, Release) else ending


def hand_back(flight: InFlight) -> Release:
    """Return a recording to the front of its queue with its progress; no try is spent."""
    claim = flight.claim
    return Release(claim.job_id, claim.execution_id, claim.queue, checkpoint=flight.checkpoint())


def read_flight(
    claim: Claim, checkpoint: bytes | None, worker: str, settings: Settings
) -> InFlight | Outcome:
    """Return a claimed job as it starts, or its failure where it must not be run."""
    job = terms = None
    try:
        job = read_job(claim)
        terms = read_terms(claim)
    except ScribefarmError as error:
        return failure(claim, error, worker, settings, job=job, terms=terms)
    before = read_checkpoint(checkpoint)
    return InFlight(claim, job, terms, before, history=read_history(claim))
