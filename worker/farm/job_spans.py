"""The spans of a job, recorded at its end; see `producer.spans` for their tree."""

from producer.result import Failure
from producer.spans import past_span
from worker.farm.endings import Outcome
from worker.farm.job_hash import waited_s


def record_job(outcome: Outcome, commit_s: float) -> None:
    """Record where the time of a committed job went; nothing if it belongs to no trace.

    Times are the server's, on which wait and work meet.

    Args:
        outcome: How the job ended.
        commit_s: Seconds that its commit took.
    """
    claim, result = outcome.claim, outcome.result
    if claim.traceparent is None:
        return
    claimed_s = claim.claimed_at_s
    ended_s = claimed_s + outcome.busy_s
    past_span("wait", claim.traceparent, claimed_s - waited_s(claim), claimed_s)
    about: dict[str, str | int | float | bool] = {
        "scribefarm.job_id": claim.job_id,
        "scribefarm.worker": outcome.worker,
        "scribefarm.status": result.status,
    }
    if isinstance(result, Failure):
        about["error.type"] = result.error.code
    parent = past_span("job", claim.traceparent, claimed_s, ended_s + commit_s, about)
    if outcome.opened_s is not None:
        opened_s = claimed_s + outcome.opened_s
        past_span("line", parent, claimed_s, opened_s)
        past_span("read and decode", parent, opened_s, ended_s, _work(outcome))
    past_span("commit", parent, ended_s, ended_s + commit_s)


def _work(outcome: Outcome) -> dict[str, str | int | float | bool]:
    if isinstance(outcome.result, Failure):
        return {}
    timing, audio = outcome.result.timing, outcome.result.audio
    return {
        "scribefarm.audio_s": audio.duration_s,
        "scribefarm.read_s": timing.audio_prep_s,
        "scribefarm.decode_s": timing.decode_s,
        "scribefarm.windows": timing.windows,
        "scribefarm.tokens": timing.generated_tokens,
        "scribefarm.model": outcome.result.model.name,
    }
