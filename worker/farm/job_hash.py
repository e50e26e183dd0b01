"""Parse and validate an RQ job hash. Every field is untrusted input.

The function is compared with an allow-list and never imported. Data is JSON or refused; callbacks,
webhooks and `meta` are never loaded. A feature of RQ that the farm does not support is refused by
name rather than ignored.
"""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rq.queue import Queue
from rq.utils import str_to_date

from producer.errors import Cancelled, JobRefused, ScribefarmError
from producer.job import TASK_NAME, Job
from producer.plain_json import check_json
from producer.result import ErrorRecord
from producer.rq_data import MAX_FIELD_BYTES, load_call
from worker.engine.messages import Checkpoint
from worker.farm.retries import History
from worker.farm.scripts import Claim

ALLOWED_FUNCTIONS = frozenset({TASK_NAME})

# RQ writes this timeout into every job that asks for none.
_DEFAULT_TIMEOUT_S = Queue.DEFAULT_TIMEOUT

# RQ features that the farm does not support, and what to use instead.
_REFUSED_FIELDS = {
    "success_callback_name": "on_success callbacks are not run here; use depends_on",
    "failure_callback_name": "on_failure callbacks are not run here; use depends_on",
    "stopped_callback_name": "on_stopped callbacks are not run here; read the events stream",
    "webhooks": "RQ's webhooks are not sent here; read the events stream",
    "repeats_left": "repeat is not supported: the same recording gives the same text",
    "rate_limit_key": "rate_limit is not supported; use a queue of its own",
}

# A night of speech has about 20 MB with the times of all its words.
MAX_CHECKPOINT_BYTES = 1 << 28
# The longest time that a job may ask for: ten years. Redis and clocks take no time without bound.
MAX_TIME_S = 10 * 365 * 86400
# Delays between tries: a day is the longest that makes sense, and more than a hundred are a mistake.
MAX_RETRY_DELAY_S = 86400.0
MAX_RETRY_DELAYS = 100
# Counters of tries and deaths; anything beyond was not counted by us.
_MAX_COUNT = 1_000_000

_CHECKPOINT = TypeAdapter(Checkpoint)


@dataclass(frozen=True)
class RqTimes:
    """Timeout and TTLs that an RQ job asks for.

    Attributes:
        timeout_s: Seconds it may run; None scales with the recording, -1 is no limit.
        result_ttl_s: Seconds a transcript is kept; None takes the farm's, -1 is for ever.
        failure_ttl_s: The same for a failure.
    """

    timeout_s: float | None = None
    result_ttl_s: int | None = None
    failure_ttl_s: int | None = None


def read_job(claim: Claim) -> Job:
    """Return the validated job; what it leaves out is what its id was made of.

    Raises:
        JobRefused: another function, not JSON, positional arguments, too large.
        InvalidOptions: the keyword arguments are wrong.
        Cancelled: somebody cancelled it while it waited.
    """
    if claim.fields["cancel"]:
        raise Cancelled("job", "was cancelled before it started", claim.job_id)
    if claim.oversized:
        raise JobRefused(f"job: {claim.oversized}", f"must be at most {MAX_FIELD_BYTES} bytes")
    for field, reason in _REFUSED_FIELDS.items():
        if claim.fields[field]:
            raise JobRefused(f"job: {field}", reason)
    return Job.from_kwargs(_read_kwargs(claim.fields["data"])).as_meant(claim.job_id)


def read_times(claim: Claim) -> RqTimes:
    """Return the timeout and TTLs that the RQ job asks for.

    Raises:
        JobRefused: a time that is not a number or beyond `MAX_TIME_S`, or a result that would be
            dropped unread.
    """
    timeout_s = _read_int(claim, "timeout")
    times = RqTimes(
        timeout_s=None if timeout_s == _DEFAULT_TIMEOUT_S else timeout_s,
        result_ttl_s=_read_int(claim, "result_ttl"),
        failure_ttl_s=_read_int(claim, "failure_ttl"),
    )
    for name, ttl_s in (("result_ttl", times.result_ttl_s), ("failure_ttl", times.failure_ttl_s)):
        if ttl_s is not None and (ttl_s == 0 or ttl_s < -1):
            raise JobRefused(f"job: {name}", "must be positive, or -1 for ever", ttl_s)
    if timeout_s is not None and (timeout_s == 0 or timeout_s < -1):
        raise JobRefused("job: timeout", "must be positive, or -1 for no limit", timeout_s)
    return times


def read_history(claim: Claim) -> History:
    """Return the failed tries and dead workers on record; a damaged record counts as none.

    So do delays of which one is negative, longer than `MAX_RETRY_DELAY_S` or no number.
    """
    asked = claim.fields["retries_left"]
    return History(
        tries=_lenient_int(claim.fields["tries"]),
        deaths=_lenient_int(claim.fields["deaths"]),
        excused=_lenient_int(claim.fields["excused"]),
        retries_left=_lenient_int(asked) if asked else None,
        retry_delays_s=_read_delays(claim.fields["retry_intervals"]),
    )


def has_drifted(claim: Claim, job: Job) -> bool:
    """Return whether the model that the job names has handed it on; only if the job asks for it."""
    return bool(claim.fields["drifted"]) and job.options.on_drift == "whisper"


def _read_delays(stored: bytes) -> tuple[float, ...]:
    try:
        delays = tuple(float(delay) for delay in json.loads(stored))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return ()
    # NaN is in no range.
    are_sound = all(0.0 <= delay <= MAX_RETRY_DELAY_S for delay in delays)
    return delays if are_sound and len(delays) <= MAX_RETRY_DELAYS else ()


def read_attempts(claim: Claim) -> list[ErrorRecord]:
    """Return the errors of earlier attempts, oldest first; damaged lines are left out."""
    records = []
    for line in claim.fields["attempts"].splitlines():
        try:
            record = ErrorRecord.model_validate_json(line)
            check_json(record.value)
        except ValueError:
            continue
        records.append(record)
    return records


def error_record(error: ScribefarmError) -> str:
    """Return the line that `read_attempts` reads."""
    return json.dumps(error.to_dict())


def read_checkpoint(stored: bytes | None) -> Checkpoint | None:
    """Return where to go on; None starts over, also if the checkpoint is damaged or huge."""
    if not stored or len(stored) > MAX_CHECKPOINT_BYTES:
        return None
    try:
        return _CHECKPOINT.validate_json(stored)
    except ValidationError:
        return None


def dump_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the JSON that `read_checkpoint` reads."""
    return _CHECKPOINT.dump_json(checkpoint).decode()


def waited_s(claim: Claim) -> float:
    """Return the seconds from the job's submission to its claim."""
    try:
        return max(0.0, claim.claimed_at_s - str_to_date(claim.fields["enqueued_at"]).timestamp())
    except (ValueError, TypeError, AttributeError, OverflowError):
        return 0.0


def _read_kwargs(data: bytes) -> dict[str, Any]:
    name, instance, args, kwargs = load_call(data)
    if not isinstance(name, str) or name not in ALLOWED_FUNCTIONS:
        raise JobRefused("job: function", f"must be {TASK_NAME}", str(name)[:200])
    if instance is not None or args:
        raise JobRefused("job: args", "must be keyword arguments only")
    if not isinstance(kwargs, dict):
        raise JobRefused("job: kwargs", "must be a JSON object")
    return kwargs


def _read_int(claim: Claim, field: str) -> int | None:
    stored = claim.fields[field]
    try:
        seconds = int(stored) if stored else None
    except ValueError as error:
        raise JobRefused(f"job: {field}", "must be whole seconds", repr(stored[:40])) from error
    if seconds is not None and seconds > MAX_TIME_S:
        raise JobRefused(f"job: {field}", f"must be at most {MAX_TIME_S} s", repr(stored[:40]))
    return seconds


def _lenient_int(stored: bytes) -> int:
    try:
        return min(max(0, int(stored)), _MAX_COUNT)
    except ValueError:
        return 0
