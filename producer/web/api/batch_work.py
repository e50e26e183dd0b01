"""The work on a batch: its lines become jobs, and when these have ended, its files are there.

Each step may be repeated: one process works on a batch at a time, under a lease, and goes on where
another one stopped. A batch is looked after when somebody asks for it.
"""

import structlog

from producer.batches.views import batch_exists
from producer.batches.watching import batch_status
from producer.errors import QueueFull, ScribefarmError, ServerUnreachable
from producer.web.api.batch_output import answer_lines
from producer.web.api.batch_reading import PAGE, read_lines
from producer.web.api.batch_turn import BatchTurn, is_cancelled, lease, now_s
from producer.web.api.records import FileRecord
from producer.web.api.shapes import LineError, Status
from producer.web.api.state import Api

_log = structlog.get_logger()


def work_on(api: Api, batch_id: str) -> None:
    """Take a batch as far as it goes now, unless somebody is at it."""
    try:
        with lease(api, batch_id) as is_ours:
            if is_ours:
                _advance(BatchTurn(api, batch_id))
    except ScribefarmError as error:
        # Asked for again, it goes on.
        _log.warning("batch_waits", batch=batch_id, **error.to_dict())


def _advance(turn: BatchTurn) -> None:
    """Read lines, cancel what is to be, and finish what has ended."""
    if turn.batch.status == "validating":
        _read(turn)
    if turn.batch.status in {"in_progress", "cancelling"}:
        _stop_if_asked(turn)
        if _num_left(turn) == 0:
            turn.note(status="finalizing", finalizing_at=now_s())
    if turn.batch.status == "finalizing":
        _finish(turn)


def _read(turn: BatchTurn) -> None:
    try:
        read_lines(turn)
    except (QueueFull, ServerUnreachable):
        raise
    except ScribefarmError as error:
        told = LineError(code=error.code, message=str(error))
        turn.note(status="failed", failed_at=now_s(), errors=[told, *turn.batch.errors])
        turn.cancel_jobs()
        return
    turn.note(status="in_progress", in_progress_at=now_s())


def _stop_if_asked(turn: BatchTurn) -> None:
    """Cancel the jobs of a batch that was cancelled, or whose time is up before they are done."""
    if turn.batch.status == "cancelling" or not turn.is_stopped():
        return
    if is_cancelled(turn.api, turn.batch.id):
        turn.note(status="cancelling", cancelling_at=now_s())
    elif _num_left(turn):
        turn.note(status="cancelling", expired_at=now_s())
    turn.cancel_jobs()


def _num_left(turn: BatchTurn) -> int:
    """Return how many of the batch's jobs have not ended."""
    if not batch_exists(turn.connection, turn.batch.id):
        return 0
    return batch_status(turn.connection, turn.settings, turn.batch.id).counts.left


def _finish(turn: BatchTurn) -> None:
    """Count the answers, and give the files that have some their ids."""
    sizes, numbers = {False: 0, True: 0}, {False: 0, True: 0}
    for is_error, line in answer_lines(turn.connection, turn.batch):
        sizes[is_error] += len(line)
        numbers[is_error] += 1
        if sum(numbers.values()) % PAGE == 0:
            turn.renew()
    output, errors = (_file(turn, kind, sizes[kind == "errors"]) for kind in ("output", "errors"))
    status = _last_status(turn)
    turn.note(
        status=status,
        output_file_id=output,
        error_file_id=errors,
        num_completed=numbers[False],
        num_failed=numbers[True],
        **{f"{status}_at": now_s()},
    )


def _last_status(turn: BatchTurn) -> Status:
    if turn.batch.cancelling_at is not None:
        return "cancelled"
    if turn.batch.expired_at is not None:
        return "expired"
    # Of no line anything could be done.
    return "failed" if turn.batch.num_damaged == turn.batch.num_lines else "completed"


def _file(turn: BatchTurn, kind: str, num_bytes: int) -> str | None:
    if not num_bytes:
        return None
    ttl_s = turn.settings.http.keep_s
    record = FileRecord(
        # The same each time: this step may be repeated.
        id=f"file-{kind}-{turn.batch.id.removeprefix('batch_')}",
        created_at=now_s(),
        filename=f"{turn.batch.id}_{kind}.jsonl",
        num_bytes=num_bytes,
        purpose="batch_output",
        expires_at=now_s() + ttl_s,
        batch=turn.batch.id,
    )
    turn.files.put_new(record, ttl_s)
    return record.id
