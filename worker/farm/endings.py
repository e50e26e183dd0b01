"""How a job ends here: with a result to commit, or back in a queue. Decisions only, no Redis."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from rq.job import JobStatus

from producer.errors import Cancelled, Internal, ScribefarmError, WorkerLost
from producer.job import Job
from producer.keys import model_queue, split_queue
from producer.plain_json import as_text
from producer.result import LANGUAGE_DRIFT, ErrorRecord, Failure, Transcript, dump_result
from producer.settings import QueueSettings
from producer.source import shown_source
from worker.farm.glossary import with_replacements
from worker.farm.in_flight import InFlight
from worker.farm.job_hash import error_record, read_attempts, read_job, waited_s
from worker.farm.retries import RetryIn, after_failure
from worker.farm.scripts import Claim, Release


@dataclass(frozen=True)
class Outcome:
    """One job's final result, ready to be committed.

    Attributes:
        ttl_s: Seconds to keep the result; -1 is for ever, which only an RQ program can ask for.
        busy_s: Seconds from claim to end.
        batch: Name of the job's batch, if it has one.
        opened_s: Seconds from claim to the opening of its file; None if it was not opened.
        foreign_sha256: Hash of the audio that was read, where the job's id is made of another;
            "" where it is of that audio, or nobody hashed it.
    """

    claim: Claim
    result: Transcript | Failure
    ttl_s: int
    busy_s: float = 0.0
    batch: str | None = None
    foreign_sha256: str = ""
    opened_s: float | None = None

    @cached_property
    def document(self) -> str:
        """Return the result as it is stored."""
        return dump_result(self.result)

    @property
    def worker(self) -> str:
        """Return the name of the worker that ended the job."""
        return self.result.worker

    @property
    def status(self) -> JobStatus:
        """Return RQ's status of the ended job: finished, failed or stopped."""
        if isinstance(self.result, Transcript):
            return JobStatus.FINISHED
        is_cancelled = self.result.error.code == Cancelled.code
        return JobStatus.STOPPED if is_cancelled else JobStatus.FAILED


Ending = Outcome | Release

# A sentence that is quoted, or a name in another language, is no drift.
DRIFTED_SHARE = 0.1
# Of an exception's own words, in a message.
_MAX_QUOTED = 500


def success(
    flight: InFlight, transcript: Transcript, worker: str, settings: QueueSettings
) -> Outcome:
    """Return the outcome of a finished recording, with what only the farm knows filled in."""
    timing = transcript.timing.model_copy(update={"queue_s": round(waited_s(flight.claim), 3)})
    read = transcript.audio.sha256 or ""
    # A source that is no file: whoever fetched it found the version that the id is made of.
    stand_in = flight.job.identity if flight.job.audio_sha256 is None else None
    is_of_id = flight.claim.job_id in map(flight.job.content_id, {read, stand_in or read})
    filled = {
        "job_id": flight.claim.job_id,
        "source": shown_source(flight.job.source),
        "trace_id": flight.claim.trace_id,
        "metadata": flight.job.metadata,
        "worker": worker,
        "timing": timing,
    }
    return Outcome(
        flight.claim,
        with_replacements(transcript, flight.job.options).model_copy(update=filled),
        ttl_s=flight.times.result_ttl_s or settings.result_ttl_s,
        busy_s=flight.busy_s,
        batch=flight.job.batch,
        foreign_sha256="" if is_of_id else read,
        opened_s=flight.line_s,
    )


def after_attempt(
    flight: InFlight, error: ScribefarmError, worker: str, settings: QueueSettings
) -> Ending:
    """Return what to do with a recording whose attempt failed: end it or give it back."""
    verdict = after_failure(error, flight.history, settings)
    if isinstance(verdict, RetryIn):
        return hand_back(flight)._replace(delay_s=verdict.delay_s, record=error_record(error))
    return Outcome(
        flight.claim,
        _failure(flight.claim, flight.job, verdict, error, worker),
        ttl_s=flight.times.failure_ttl_s or settings.result_ttl_s,
        busy_s=flight.busy_s,
        batch=flight.job.batch,
        opened_s=flight.line_s,
    )


def after_breakdown(
    flight: InFlight, error: ScribefarmError, worker: str, settings: QueueSettings
) -> Ending:
    """Return what to do with a recording that was in flight when the engine broke down.

    It counts as one more dead worker of this recording.
    """
    history = replace(flight.history, deaths=flight.history.deaths + 1)
    lost = WorkerLost("engine", f"broke down: {error}", worker)
    ending = after_attempt(replace(flight, history=history), lost, worker, settings)
    return ending._replace(died=True) if isinstance(ending, Release) else ending


def hand_back(flight: InFlight) -> Release:
    """Return a recording to the front of its queue with its progress; no try is spent."""
    claim = flight.claim
    checkpoint = flight.progress.checkpoint()
    return Release(claim.job_id, claim.execution_id, claim.queue, checkpoint=checkpoint)


def to_its_model(flight: InFlight) -> Release:
    """Return a recording to the queue of the model that is to transcribe it; no try is spent."""
    claim = flight.claim
    queue = model_queue(split_queue(claim.queue).queue, *flight.wanted_model)
    return Release(claim.job_id, claim.execution_id, claim.queue, to_queue=queue)


def handed_on(flight: InFlight) -> Release:
    """Return a recording whose text drifted to the queue of the model for that; no try is spent."""
    return to_its_model(replace(flight, drifted=True))._replace(drifted=True)


def is_handed_on(flight: InFlight, transcript: Transcript) -> bool:
    """Return whether another model shall transcribe the recording anew.

    So its options ask if more than `DRIFTED_SHARE` of the text is in another language. It happens
    once: what the second model writes counts.
    """
    options = flight.job.options
    if options.on_drift != "whisper" or flight.drifted:
        return False
    lengths = [(len(each.text), LANGUAGE_DRIFT in each.flags) for each in transcript.segments]
    drifted = sum(length for length, has_drifted in lengths if has_drifted)
    return drifted > DRIFTED_SHARE * sum(length for length, _ in lengths)


def refused(claim: Claim, error: ScribefarmError, worker: str, settings: QueueSettings) -> Outcome:
    """Return the failure of a job that `read_flight` did not accept.

    It names the source and the metadata where only the times of the RQ job were wrong.
    """
    try:
        job = read_job(claim)
    except ScribefarmError:
        job = None
    return Outcome(
        claim,
        _failure(claim, job, error, error, worker),
        ttl_s=settings.result_ttl_s,
        batch=job.batch if job else None,
    )


def unexpected(
    claim: Claim, error: Exception, worker: str, settings: QueueSettings, batch: str | None = None
) -> Outcome:
    """Return the failure of a job whose data raised what nobody foresaw; it can always be written.

    Of the job it says nothing but its id: any of the rest may be at fault.
    """
    found = f"{type(error).__name__}: {as_text(str(error), _MAX_QUOTED)}"
    defect = Internal("job", "a defect that its data brought out", found)
    failure = Failure.from_error(claim.job_id, defect, worker=worker, trace_id=claim.trace_id)
    return Outcome(claim, failure, ttl_s=settings.result_ttl_s, batch=batch and as_text(batch))


def plainer(outcome: Outcome, error: Exception, settings: QueueSettings) -> Iterator[Outcome]:
    """Yield what may be stored in the place of an outcome that `error` kept from being stored.

    First the same without what came with the job, so that no text is lost; then the bare failure.
    """
    bare = {"metadata": {}, "source": as_text(outcome.result.source)}
    yield replace(outcome, result=outcome.result.model_copy(update=bare), batch=None)
    yield unexpected(outcome.claim, error, outcome.worker, settings)


def _failure(
    claim: Claim,
    job: Job | None,
    error: ScribefarmError,
    last_attempt: ScribefarmError,
    worker: str,
) -> Failure:
    return Failure.from_error(
        claim.job_id,
        error,
        source=shown_source(job.source) if job else "",
        trace_id=claim.trace_id,
        metadata=job.metadata if job else {},
        attempts=[*read_attempts(claim), ErrorRecord(**last_attempt.to_dict())],
        worker=worker,
    )
