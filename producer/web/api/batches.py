"""`/v1/batches`: many requests in a file of lines, answered in a file of lines."""

import asyncio
import re
import time
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producer.batches.counts import read_counts
from producer.errors import InvalidOptions, JobNotFound
from producer.plain_json import Text
from producer.web.api.asked import ASKED
from producer.web.api.batch_output import batches_of
from producer.web.api.batch_turn import ask_to_cancel, is_at_work, is_cancelled
from producer.web.api.batch_work import work_on
from producer.web.api.bodies import read_json
from producer.web.api.errors import Refusal
from producer.web.api.files import files_of
from producer.web.api.paging import PageQuery, read_query
from producer.web.api.records import BatchRecord, new_id
from producer.web.api.shapes import BatchList, BatchShape, LineErrors, RequestCounts
from producer.web.api.state import Api, api_of, trace_of
from producer.web.api.storing import check_pressure

_WINDOW = re.compile(r"([0-9]{1,3})(h|d)", re.ASCII)
_SECONDS = {"h": 3600, "d": 86_400}
_GOES_ON = frozenset({"validating", "in_progress", "cancelling", "finalizing"})
# OpenAI's bounds.
_MAX_PAIRS, _MAX_KEY, _MAX_VALUE = 16, 64, 512

_Key = Annotated[Text, Field(max_length=_MAX_KEY)]
_Value = Annotated[Text, Field(max_length=_MAX_VALUE)]


class AskedBatch(BaseModel):
    """A batch to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_file_id: Annotated[str, Field(max_length=100)]
    endpoint: Annotated[str, Field(max_length=100)] = Field(description="Of all its lines.")
    completion_window: Annotated[str, Field(max_length=10)] = Field(
        description="24h, or other hours or days: 7d. What is left then is cancelled."
    )
    metadata: Annotated[dict[_Key, _Value], Field(max_length=_MAX_PAIRS)] | None = None

    def window_s(self) -> int:
        """Return the seconds in which it must be done.

        Raises:
            Refusal: they are not so written.
        """
        found = _WINDOW.fullmatch(self.completion_window)
        if found is None or not (window_s := int(found[1]) * _SECONDS[found[2]]):
            name = "completion_window"
            error = InvalidOptions(f"request: {name}", "must be like 24h", self.completion_window)
            raise Refusal(error, param=name)
        return window_s


async def create_batch(request: Request) -> Response:
    """Begin with a file of lines."""
    api = api_of(request)
    asked = await read_json(request, AskedBatch)
    await asyncio.to_thread(check_pressure, api.connection, api.settings)
    record = await asyncio.to_thread(_create, api, asked, str(trace_of(request)))
    api.begin(record.id, work_on)
    return _shown(api, record)


def _create(api: Api, asked: AskedBatch, traceparent: str) -> BatchRecord:
    window_s = min(asked.window_s(), api.settings.http.keep_s)
    if asked.endpoint not in ASKED:
        must = f"must be one of {', '.join(ASKED)}"
        unknown = InvalidOptions("request: endpoint", must, asked.endpoint)
        raise Refusal(unknown, param="endpoint")
    try:
        file = files_of(api).get(asked.input_file_id)
    except JobNotFound as error:
        raise Refusal(error, param="input_file_id") from error
    if file.purpose != "batch":
        must = "must be of purpose batch"
        other = InvalidOptions("request: input_file_id", must, file.purpose)
        raise Refusal(other, param="input_file_id")
    record = BatchRecord(
        id=new_id("batch_"),
        created_at=int(time.time()),
        input_file_id=file.id,
        endpoint=asked.endpoint,
        completion_window=asked.completion_window,
        expires_at=int(time.time()) + window_s,
        traceparent=traceparent,
        metadata=asked.metadata,
    )
    batches_of(api).put_new(record, api.settings.http.keep_s)
    return record


async def get_openai_batch(request: Request) -> Response:
    """Say where a batch of lines stands; it is looked after meanwhile."""
    api, batch_id = api_of(request), request.path_params["batch_id"]
    record = await asyncio.to_thread(batches_of(api).get, batch_id)
    return _answer(await asyncio.to_thread(_seen_to, api, record))


async def list_openai_batches(request: Request) -> Response:
    """List batches of lines, the newest first."""
    api, query = api_of(request), read_query(request, PageQuery)
    page = await asyncio.to_thread(
        batches_of(api).page, query.after, query.size, oldest_first=query.order == "asc"
    )
    shapes = [await asyncio.to_thread(_seen_to, api, record) for record in page.records]
    listed = BatchList(
        data=shapes,
        first_id=shapes[0].id if shapes else None,
        last_id=shapes[-1].id if shapes else None,
        has_more=page.has_more,
    )
    return JSONResponse(listed.model_dump())


async def cancel_openai_batch(request: Request) -> Response:
    """Cancel what is left of a batch of lines."""
    api, batch_id = api_of(request), request.path_params["batch_id"]
    record = await asyncio.to_thread(batches_of(api).get, batch_id)
    if record.status not in _GOES_ON:
        raise InvalidOptions("batch", "must not have ended", record.status)
    await asyncio.to_thread(ask_to_cancel, api, batch_id)
    return _answer(await asyncio.to_thread(_seen_to, api, record))


def _seen_to(api: Api, record: BatchRecord) -> BatchShape:
    """Return where a batch stands; if there is something to do for it, let it be done."""
    if record.status in _GOES_ON and _is_due(api, record):
        api.begin(record.id, work_on)
    return shape_of(api, record)


def _is_due(api: Api, record: BatchRecord) -> bool:
    if is_at_work(api, record.id):
        return False
    if record.status != "in_progress":
        return True
    is_over = record.expires_at <= time.time() or is_cancelled(api, record.id)
    counts = _counts(api, record)
    return is_over or counts.total <= counts.completed + counts.failed


def shape_of(api: Api, record: BatchRecord) -> BatchShape:
    """Return a batch as OpenAI shows it."""
    status = record.status
    if status in {"validating", "in_progress"} and is_cancelled(api, record.id):
        status = "cancelling"
    kept = record.model_dump(
        include=set(BatchShape.model_fields) - {"errors", "status", "metadata"}
    )
    return BatchShape(
        **kept,
        status=status,
        metadata=record.metadata,
        errors=LineErrors(data=record.errors) if record.errors else None,
        request_counts=_counts(api, record),
    )


def _counts(api: Api, record: BatchRecord) -> RequestCounts:
    if record.status not in _GOES_ON:
        return RequestCounts(
            total=record.num_lines, completed=record.num_completed, failed=record.num_failed
        )
    try:
        counts = read_counts(api.connection, record.id)
    except JobNotFound:
        return RequestCounts(total=record.num_lines, failed=record.num_damaged)
    return RequestCounts(
        total=record.num_lines,
        completed=counts.succeeded,
        failed=counts.failed + counts.lost + record.num_damaged,
    )


def _shown(api: Api, record: BatchRecord) -> Response:
    return _answer(shape_of(api, record))


def _answer(shape: BatchShape) -> Response:
    return JSONResponse(shape.model_dump())
