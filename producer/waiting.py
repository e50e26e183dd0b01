"""Wait for results: sleep in the server until an event says that a job has ended."""

import time
from collections.abc import Callable, Iterable, Iterator

import redis

from producer.connection import server_errors
from producer.errors import Cancelled, JobNotFound, ScribefarmError, Unreadable, WorkerLost
from producer.events import MAX_BLOCK_S, last_event_id, read_entries
from producer.keys import job_key, result_key
from producer.paging import pages
from producer.pending import PendingJobs
from producer.result import Failure, Transcript, read_stored
from producer.server_replies import lenient_replies
from producer.states import state_of
from producer.stored_fields import stored_text

# Results that no event announced (trimmed stream, other program) are looked for this often.
RECHECK_S = 5.0
# Jobs looked up then: the next ones of all that are missing, at most 1 % of the server's time.
_SLICE = 5000
# Jobs looked up in one call.
_PAGE = 1000


def wait_for_results(
    connection: redis.Redis,
    job_ids: Iterable[str] | PendingJobs,
    timeout_s: float | None = None,
    *,
    tick_s: float = MAX_BLOCK_S,
    on_tick: Callable[[PendingJobs], None] | None = None,
) -> Iterator[Transcript | Failure]:
    """Yield each job's outcome as it comes; end when all have come or the time is out.

    Sleeps in the server on the events stream between looks. `on_tick` is called with the jobs
    still missing, about every `tick_s`; an exception it raises ends the wait. A job that ended
    without a result (cancelled by another RQ tool, expired), or with one that cannot be read,
    yields a `Failure` that says so. Of a `PendingJobs`, each job is taken out when the next outcome
    is asked for.
    """
    pending = job_ids if isinstance(job_ids, PendingJobs) else PendingJobs(job_ids)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    last_event = last_event_id(connection)
    due: Iterable[str] = pending
    recheck_at = time.monotonic() + RECHECK_S
    while pending:
        for outcome in _outcomes(connection, due):
            yield outcome
            pending.finish(outcome.job_id)
        left_s = tick_s if deadline is None else min(tick_s, deadline - time.monotonic())
        if not pending or left_s <= 0:
            return
        if on_tick is not None:
            on_tick(pending)
        last_event, ended = _wait_for_events(connection, last_event, left_s)
        found = {job_id for job_id in ended if job_id in pending}
        if time.monotonic() >= recheck_at:
            found.update(pending.next_slice(_SLICE))
            recheck_at = time.monotonic() + RECHECK_S
        due = found


def _wait_for_events(connection: redis.Redis, after: str, block_s: float) -> tuple[str, set[str]]:
    """Wait for events; return the last one's id and the job ids that they name."""
    entries = read_entries(connection, after, _PAGE, block_s)
    named = {stored_text(fields[b"job_id"]) for _, fields in entries if b"job_id" in fields}
    return (entries[-1][0].decode() if entries else after), named


def _outcomes(connection: redis.Redis, job_ids: Iterable[str]) -> Iterator[Transcript | Failure]:
    for page in pages(job_ids, _PAGE):
        with server_errors(connection):
            pipeline = connection.pipeline(transaction=False)
            for job_id in page:
                # State first: a job that has ended by then has its result by now.
                pipeline.hget(job_key(job_id), "status")
            pipeline.mget([result_key(job_id) for job_id in page])
            *states, results = lenient_replies(pipeline)
        for job_id, state, stored in zip(page, states, results, strict=True):
            if stored is not None:
                yield read_stored(job_id, stored)
            elif state is None or state_of(stored_text(state)) in {"succeeded", "failed"}:
                yield _without_result(job_id, state)


def _without_result(job_id: str, state: bytes | None) -> Failure:
    error: ScribefarmError
    if state is None:
        error = JobNotFound("job", "must be known to the server", job_id)
    elif state == b"finished":
        error = Unreadable("result", "must be stored; it has expired or was replaced", job_id)
    elif state == b"failed":
        error = WorkerLost("job", "ended without a result, outside the farm", job_id)
    else:
        error = Cancelled("job", "was cancelled by another program", job_id)
    return Failure.from_error(job_id, error)
