"""Log lines about jobs: one canonical line for each end, one for each return to a queue."""

import contextlib
import json

import structlog

from producer.result import Transcript
from worker.farm.commit import CommitVerdict
from worker.farm.endings import Outcome
from worker.farm.job_hash import waited_s
from worker.farm.scripts import Claim, Release

_log = structlog.get_logger()


def traced(claim: Claim) -> contextlib.AbstractContextManager[None]:
    """Let log lines name the trace of a job while it is at hand."""
    bound = structlog.contextvars.bound_contextvars
    return bound(trace_id=claim.trace_id) if claim.trace_id else contextlib.nullcontext()


def log_outcome(outcome: Outcome, verdict: CommitVerdict) -> None:
    """Log how a job ended, as event `job` with the same first keys for every job."""
    if verdict is CommitVerdict.FENCED_OFF:
        _log.warning("fenced_off", job_id=outcome.claim.job_id, busy_s=round(outcome.busy_s, 3))
        return
    result = outcome.result
    common = {"id": outcome.claim.job_id, "source": result.source, "status": result.status}
    if isinstance(result, Transcript):
        timing = result.timing
        _log.info(
            "job",
            **common,
            code=None,
            audio_s=round(result.audio.duration_s, 3),
            queue_s=round(timing.queue_s, 3),
            audio_prep_s=round(timing.audio_prep_s, 3),
            decode_s=round(timing.decode_s, 3),
            windows=timing.windows,
            tokens=timing.generated_tokens,
            real_time_factor=round(timing.real_time_factor, 2),
        )
        return
    _log.warning(
        "job",
        **common,
        code=result.error.code,
        error=result.error.message,
        attempts=len(result.attempts),
        queue_s=round(waited_s(outcome.claim), 3),
        busy_s=round(outcome.busy_s, 3),
    )


def log_taken_over(claims: list[Claim]) -> None:
    """Log which jobs were taken over from which dead workers."""
    for claim in claims:
        dead_worker = claim.fields["lost_worker"].decode(errors="replace")
        with traced(claim):
            _log.warning("taken_over", job_id=claim.job_id, from_worker=dead_worker)


def log_release(release: Release, *, is_ours: bool) -> None:
    """Log that a job went back to its queue, and why; `is_ours` is false if it was fenced off."""
    if not is_ours:
        _log.warning("fenced_off", job_id=release.job_id)
        return
    if release.to_queue:
        message = "language_drift" if release.drifted else "routed"
        _log.info(message, job_id=release.job_id, queue=release.to_queue)
        return
    code = json.loads(release.record)["code"] if release.record else "drained"
    _log.info("requeued", job_id=release.job_id, code=code, delay_s=release.delay_s)
