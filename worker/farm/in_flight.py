"""One claimed recording at work: where it stands, and what of that the server has."""

import math
import time
from dataclasses import dataclass, field, replace
from enum import Enum

from producer.job import Job
from producer.progress_lines import dump_lines, latest_lines
from producer.settings import WorkerSettings
from worker.engine.messages import Checkpoint, Progress, Ticket
from worker.farm.job_hash import (
    RqTimes,
    dump_checkpoint,
    has_drifted,
    read_checkpoint,
    read_history,
    read_job,
    read_times,
)
from worker.farm.retries import History
from worker.farm.scripts import Claim


class Phase(Enum):
    """Who has the recording: each phase follows from the one before."""

    CHECKING_SOURCE = "checking_source"
    IN_ENGINE = "in_engine"
    CANCELLING = "cancelling"


@dataclass
class ReportedProgress:
    """The engine's last report on a recording, and when it was written to the server.

    Attributes:
        last: Report on the last finished window; None before the first.
        is_stored: False while the server lacks the last report.
        stored_at: Monotonic time of the last write of any kind.
        checkpointed_at: Monotonic time of the last write that included a checkpoint.
    """

    last: Progress | None = None
    is_stored: bool = True
    stored_at: float = -math.inf
    checkpointed_at: float = -math.inf

    def take(self, progress: Progress) -> None:
        """Keep a new report, which is still to be stored."""
        self.last, self.is_stored = progress, False

    def mark_stored(self, *, with_checkpoint: bool) -> None:
        """Note that the last report was written just now."""
        self.is_stored, self.stored_at = True, time.monotonic()
        if with_checkpoint:
            self.checkpointed_at = self.stored_at

    def checkpoint(self) -> str:
        """Return the JSON to resume from, "" before the first window."""
        return dump_checkpoint(self.last.checkpoint) if self.last else ""

    def fields(self, worker: str) -> dict[str, str]:
        """Return the progress hash of a job at `worker`; empty before the first window."""
        if self.last is None:
            return {}
        lines = latest_lines(reversed(self.last.checkpoint.segments))
        return {
            "seconds_done": f"{self.last.seconds_done:.3f}",
            "duration_s": f"{self.last.duration_s:.3f}",
            "text": "".join(line.text for line in lines).strip(),
            "lines": dump_lines(lines),
            "worker": worker,
        }


@dataclass
class InFlight:
    """A claimed recording from its claim to its end.

    Attributes:
        times: Timeout and TTLs that the RQ job asks for.
        checkpoint_before: Where the last attempt stood.
        history: Failed tries and dead workers since the last stored checkpoint.
        drifted: The model that the job names wrote another language, and handed it on.
        started_at: Monotonic time of the claim.
        opened_at: Monotonic time at which the engine opened the file; None while it waits in line.
        duration_s: Audio seconds that the file's header declares; 0 if that is not known.
        phase: Who has the recording.
        phase_since: Monotonic time at which that phase began.
        progress: What this attempt has reported.
    """

    claim: Claim
    job: Job
    times: RqTimes
    checkpoint_before: Checkpoint | None = None
    history: History = field(default_factory=History)
    drifted: bool = False
    started_at: float = field(default_factory=time.monotonic)
    opened_at: float | None = None
    duration_s: float = 0.0
    phase: Phase = Phase.CHECKING_SOURCE
    phase_since: float = field(default_factory=time.monotonic)
    progress: ReportedProgress = field(default_factory=ReportedProgress)

    @property
    def wanted_model(self) -> tuple[str | None, str | None]:
        """Return name and revision of the model that is to transcribe it; None is any."""
        if self.drifted:
            return self.job.options.drift_model, None
        return self.job.model, self.job.revision

    @property
    def is_suspect(self) -> bool:
        """Return whether the last worker died with it and it has stored no checkpoint since."""
        return self.history.deaths > 0

    @property
    def busy_s(self) -> float:
        """Return the seconds since the claim."""
        return time.monotonic() - self.started_at

    @property
    def worked_s(self) -> float:
        """Return the seconds since its file was opened; time in the line before does not count."""
        return 0.0 if self.opened_at is None else time.monotonic() - self.opened_at

    @property
    def line_s(self) -> float | None:
        """Return the seconds from the claim to the opening of its file; None before that."""
        return None if self.opened_at is None else self.opened_at - self.started_at

    @property
    def phase_s(self) -> float:
        """Return the seconds since the phase began."""
        return time.monotonic() - self.phase_since

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.phase, self.phase_since = phase, time.monotonic()

    def note_opened(self, duration_s: float | None) -> None:
        """Start the job's clock: a reading thread has opened its file."""
        self.opened_at, self.duration_s = time.monotonic(), duration_s or 0.0

    def limit_s(self, settings: WorkerSettings) -> float | None:
        """Return the seconds the job may run; None is no limit.

        Without a timeout of the RQ job it is `deadline_factor` times the recording's duration, as
        its header or a finished window tells it, and at least `min_deadline_s`.
        """
        asked_s = self.times.timeout_s
        if asked_s is not None:
            return None if asked_s < 0 else asked_s
        duration_s = self.progress.last.duration_s if self.progress.last else self.duration_s
        return max(settings.min_deadline_s, settings.deadline_factor * duration_s)

    def ticket(self, path: str) -> Ticket:
        """Return what the engine gets: the job on a checked path, from its checkpoint on."""
        job = self.job.model_copy(update={"source": path})
        return Ticket(
            self.claim.execution_id,
            self.claim.job_id,
            job,
            self.checkpoint_before,
            self.claim.trace_id,
        )

    def mark_stored(self, *, with_checkpoint: bool) -> None:
        """Mark progress as stored.

        Storing a checkpoint also resets the counts of failed tries and dead workers.
        """
        self.progress.mark_stored(with_checkpoint=with_checkpoint)
        if with_checkpoint:
            self.history = replace(self.history, tries=0, deaths=0, excused=0)


def read_flight(claim: Claim, checkpoint: bytes | None) -> InFlight:
    """Return a claimed job as it starts; `checkpoint` is what is stored under its key.

    Raises:
        JobRefused: the job is not one that this farm runs.
        InvalidOptions: the keyword arguments are wrong.
        Cancelled: somebody cancelled it while it waited.
    """
    job = read_job(claim)
    times = read_times(claim)
    history = read_history(claim)
    return InFlight(
        claim, job, times, read_checkpoint(checkpoint), history, has_drifted(claim, job)
    )
