"""The output and error files of a batch: made from its jobs' results whenever they are read."""

import json
from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any

import redis

from producer.connection import server_errors
from producer.errors import Cancelled, JobNotFound, ScribefarmError
from producer.http_status import http_status
from producer.keys import http_key
from producer.queue import RESULTS_PAGE, read_results
from producer.result import Failure, Transcript
from producer.web.api.asked import json_value
from producer.web.api.batch_lines import KeptLine
from producer.web.api.errors import error_body
from producer.web.api.records import BatchRecord, FileRecord, Shelf
from producer.web.api.state import Api


def lines_key(batch_id: str) -> str:
    """Key of the hash with what is kept of a batch's lines, by their place."""
    return http_key("lines", batch_id)


def batches_of(api: Api) -> Shelf[BatchRecord]:
    """Return the batches."""
    http = api.settings.http
    return Shelf(api.connection, "batch", BatchRecord, http.max_batches, http.keep_s)


def output_lines(api: Api, record: FileRecord) -> Iterator[bytes]:
    """Yield the lines of a batch's output file, or of its error file, in the order of its input."""
    batch = batches_of(api).get(record.batch)
    wants_errors = record.id == batch.error_file_id
    for is_error, line in answer_lines(api.connection, batch):
        if is_error is wants_errors:
            yield line


def answer_lines(connection: redis.Redis, batch: BatchRecord) -> Iterator[tuple[bool, bytes]]:
    """Yield for each line whether it failed, and its answer; a page is in memory."""
    kept = iter_kept(connection, batch)
    while page := list(islice(kept, RESULTS_PAGE)):
        found = read_results(connection, (line.job_id for line in page if line.job_id))
        outcomes = {line.number: next(found) for line in page if line.job_id}
        for line in page:
            yield _answer(batch, line, outcomes.get(line.number))


def iter_kept(connection: redis.Redis, batch: BatchRecord) -> Iterator[KeptLine]:
    """Yield what is kept of each line."""
    for start in range(0, batch.num_lines, RESULTS_PAGE):
        places = range(start, min(start + RESULTS_PAGE, batch.num_lines))
        with server_errors(connection):
            stored: Any = connection.hmget(lines_key(batch.id), [str(place) for place in places])
        yield from (
            KeptLine.model_validate_json(document) for document in stored if document is not None
        )


def _answer(
    batch: BatchRecord, line: KeptLine, outcome: Transcript | Failure | None
) -> tuple[bool, bytes]:
    if isinstance(outcome, Transcript):
        body = json_value(line.asked_of(batch.endpoint).render(outcome))
        return False, _line(batch, line, response=_response(line, HTTPStatus.OK, body))
    if line.error is not None:
        status = http_status(str(line.error.get("code")))
        response = _response(line, status, {"error": line.error})
        return True, _line(batch, line, response=response)
    error: ScribefarmError = JobNotFound("job", "must be known to the server", line.job_id)
    if outcome is not None:
        error = ScribefarmError.from_dict(outcome.error.model_dump())
    if outcome is None or isinstance(error, Cancelled):
        is_expired = batch.expired_at is not None
        code = "batch_expired" if is_expired else "batch_cancelled"
        if batch.cancelling_at is None and not is_expired:
            code = error.code
        return True, _line(batch, line, error={"code": code, "message": str(error)})
    status = http_status(error.code)
    body = error_body(error).model_dump()
    return True, _line(batch, line, response=_response(line, status, body))


def _response(line: KeptLine, status: HTTPStatus, body: Any) -> dict[str, Any]:
    return {"status_code": int(status), "request_id": line.job_id, "body": body}


def _line(
    batch: BatchRecord,
    line: KeptLine,
    *,
    response: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> bytes:
    document = {
        "id": f"{batch.id}_{line.number}",
        "custom_id": line.custom_id,
        "line": line.number,
        "response": response,
        "error": error,
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"
