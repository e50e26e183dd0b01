"""`/v1/files`: lines of a batch, and recordings that its lines or a job name."""

import asyncio
import time
from collections.abc import Iterator
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from producer.errors import InvalidOptions
from producer.uploads import store_pieces
from producer.web.api.batch_output import output_lines
from producer.web.api.errors import Refusal
from producer.web.api.form import FormFile, FormLimits
from producer.web.api.multipart import read_form
from producer.web.api.paging import PageQuery, read_query
from producer.web.api.records import FileRecord, Files, content_key, new_id
from producer.web.api.room import Room
from producer.web.api.shapes import Deleted, FileList
from producer.web.api.state import Api, api_of
from producer.web.api.storing import check_kind, store_upload, upload_limits

LINES_TYPE = "application/jsonl"
# OpenAI's least and most life of a file.
_LEAST_S, _MOST_S = 3600, 2_592_000


class AskedFile(BaseModel):
    """The fields of an upload, beside its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: str = Field(description="batch for lines, user_data for a recording.")
    anchor: str = Field("created_at", alias="expires_after[anchor]", pattern="^created_at$")
    seconds: int | None = Field(
        None, alias="expires_after[seconds]", ge=_LEAST_S, le=_MOST_S, description="Its life."
    )


def files_of(api: Api) -> Files:
    """Return the files."""
    http = api.settings.http
    keep_s = max(http.keep_s, api.settings.audio.upload_ttl_s)
    return Files(api.connection, "file", FileRecord, http.max_files, keep_s)


async def upload_file(request: Request) -> Response:
    """Keep a file of lines, or a recording."""
    api = api_of(request)
    most = upload_limits(api.settings)
    limits = most._replace(
        max_file_bytes=max(most.max_file_bytes, api.settings.http.max_batch_bytes)
    )
    async with read_form(request, limits) as form:
        try:
            asked = AskedFile.model_validate(dict(form.fields))
        except ValidationError as error:
            raise Refusal.of_validation(error) from error
        file = form.whole_file()
        record = await asyncio.to_thread(_keep, api, asked, file, most)
    return _shown(record)


def _keep(api: Api, asked: AskedFile, file: FormFile, limits: FormLimits) -> FileRecord:
    if asked.purpose == "batch":
        return _keep_lines(api, asked, file)
    if asked.purpose != "user_data":
        must = "must be batch (lines) or user_data (a recording)"
        raise Refusal(InvalidOptions("request: purpose", must, asked.purpose), param="purpose")
    check_kind(file)
    _check_size(file, limits.max_file_bytes)
    ttl_s = min(asked.seconds or _MOST_S, api.settings.audio.upload_ttl_s)
    stored = store_upload(api.connection, api.settings, file)
    record = FileRecord(
        id=new_id("file-"),
        created_at=int(time.time()),
        filename=file.name,
        num_bytes=file.num_bytes,
        purpose="user_data",
        expires_at=int(time.time()) + ttl_s,
        source=stored.source,
        sha256=stored.audio_sha256,
    )
    files_of(api).put_new(record, ttl_s)
    return record


def _keep_lines(api: Api, asked: AskedFile, file: FormFile) -> FileRecord:
    http = api.settings.http
    _check_size(file, http.max_batch_bytes)
    ttl_s = min(asked.seconds or _MOST_S, http.keep_s)
    record = FileRecord(
        id=new_id("file-"),
        created_at=int(time.time()),
        filename=file.name,
        num_bytes=file.num_bytes,
        purpose="batch",
        expires_at=int(time.time()) + ttl_s,
        sha256=file.sha256,
    )
    # Each is kept for itself, also if it comes twice.
    Room(api.connection, api.settings).take(record.id, record.num_bytes, ttl_s)
    files_of(api).put_new(record, ttl_s)
    must = "has at most http.max_batch_bytes"
    key = content_key(record.id)
    most = http.max_batch_bytes
    store_pieces(api.connection, key, file.path, ttl_s=ttl_s, max_bytes=most, must=must)
    return record


def _check_size(file: FormFile, most: int) -> None:
    if file.num_bytes > most:
        error = InvalidOptions("request: file", f"must have at most {most} bytes", file.num_bytes)
        raise Refusal(error, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE, param="file")


async def list_files(request: Request) -> Response:
    """List files, the newest first."""
    api, query = api_of(request), read_query(request, PageQuery)
    page = await asyncio.to_thread(
        files_of(api).page, query.after, query.size, oldest_first=query.order == "asc"
    )
    shown = [record.shape() for record in page.records if query.purpose in {None, record.purpose}]
    listed = FileList(
        data=shown,
        first_id=page.records[0].id if page.records else None,
        last_id=page.records[-1].id if page.records else None,
        has_more=page.has_more,
    )
    return JSONResponse(listed.model_dump())


async def get_file(request: Request) -> Response:
    """Say what a file is."""
    files = files_of(api_of(request))
    return _shown(await asyncio.to_thread(files.get, request.path_params["file_id"]))


async def delete_file(request: Request) -> Response:
    """Drop a file."""
    file_id = request.path_params["file_id"]
    await asyncio.to_thread(_delete, api_of(request), file_id)
    return JSONResponse(Deleted(id=file_id).model_dump())


def _delete(api: Api, file_id: str) -> None:
    files = files_of(api)
    record = files.get(file_id)
    files.delete(file_id)
    # A recording stays for those who wait for its text.
    Room(api.connection, api.settings).give_back(record.id, record.num_bytes)


async def file_content(request: Request) -> Response:
    """Give the lines of a file; those of a batch's output are made from its results meanwhile."""
    api = api_of(request)
    files = files_of(api)
    record: FileRecord = await asyncio.to_thread(files.get, request.path_params["file_id"])
    if record.purpose == "user_data":
        must = "recordings are not given out: only their texts"
        raise Refusal(InvalidOptions("file", must, record.id), param="file_id")
    lines: Iterator[bytes] = output_lines(api, record) if record.batch else files.content(record)
    # What is wrong with the first piece can still be told.
    first = await asyncio.to_thread(next, lines, b"")
    return StreamingResponse(_all(first, lines), media_type=LINES_TYPE)


def _all(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _shown(record: FileRecord) -> Response:
    return JSONResponse(record.shape().model_dump())
