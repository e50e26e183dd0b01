"""The farm's own jobs and batches: `/jobs`, `/batches`, with the words of the commands."""

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from producer.archive.hash_cache import HashCache
from producer.batches.actions import cancel_jobs
from producer.batches.counts import read_counts
from producer.batches.views import BatchCounts, FileView, latest_batches, note_batch, view_files
from producer.batches.watching import BatchStatus, batch_status
from producer.connection import server_errors, server_name
from producer.errors import InvalidOptions, JobNotFound, ScribefarmError, SourceForbidden
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS
from producer.job import AudioOptions, Options, invalid_options
from producer.keys import batch_key, job_key
from producer.options_of_model import fitted
from producer.plain_json import JsonObject, Text
from producer.queue import job_state, read_progress, read_result
from producer.result import Failure, Transcript, dump_result
from producer.states import State, state_of
from producer.stored_fields import stored_number, stored_text
from producer.traces import TRACEPARENT_FIELD, trace_id_of
from producer.web.api.bodies import read_json
from producer.web.api.errors import ErrorDetail, Refusal, error_body
from producer.web.api.files import files_of
from producer.web.api.model_choice import chosen_model
from producer.web.api.paging import read_query
from producer.web.api.sources import Recordings
from producer.web.api.state import Api, api_of, trace_of
from producer.web.api.storing import check_pressure
from producer.web.api.submitting import enqueue, job_for

_MAX_FILES = 1000
_NUM_BATCHES = 50


class JobShape(BaseModel):
    """Where a job stands.

    Attributes:
        state: As `scribefarm status` says it.
        result: Address of its result, once there is one.
        seconds_done: Of the audio, while it runs.
        trace_id: The trace that it was submitted in.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["job"] = "job"
    state: State
    result: str | None = None
    error: ErrorDetail | None = None
    seconds_done: float | None = None
    duration_s: float | None = None
    trace_id: str | None = None

    @classmethod
    def of(cls, job_id: str, rq_status: str, **more: Any) -> "JobShape":
        """Return where a job stands, by RQ's word for it."""
        state = state_of(rq_status)
        has_result = state in {"succeeded", "failed"}
        result = f"/jobs/{job_id}/result" if has_result else None
        return cls(id=job_id, state=state, result=result, **more)


class AskedJob(BaseModel):
    """A recording to transcribe, with the farm's own options."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[Text, Field(min_length=1, max_length=4096)] = Field(
        description="A file id, a path below audio.roots, or an http(s):// or s3:// address."
    )
    model: Annotated[Text, Field(min_length=1, max_length=1000)] = "whisper-1"
    options: dict[str, Any] = Field({}, description="Fields of producer.job.Options.")
    audio: dict[str, Any] = Field({}, description="Fields of producer.job.AudioOptions.")
    batch: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    name: Annotated[Text, Field(min_length=1, max_length=4096)] | None = None
    metadata: JsonObject = {}


class FileOfBatch(BaseModel):
    """Where a file of a batch stands."""

    model_config = ConfigDict(frozen=True)

    name: str
    job: str
    state: State
    code: str = ""
    audio_s: float = 0.0

    @classmethod
    def of(cls, view: FileView) -> "FileOfBatch":
        """Return what a look at the file found."""
        return cls(
            name=view.name,
            job=view.job_id,
            state=view.state,
            code=view.code,
            audio_s=view.audio_s,
        )


class FilesOfBatch(BaseModel):
    """Some of a batch's files; go on with `after=next` until it is absent."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[FileOfBatch]
    next: str | None = None


class BatchEntry(BaseModel):
    """A batch of the farm, and how many of its files stand where."""

    model_config = ConfigDict(frozen=True)

    batch: str
    counts: BatchCounts


class BatchEntries(BaseModel):
    """The batches that were submitted to last."""

    model_config = ConfigDict(frozen=True)

    object: Literal["list"] = "list"
    data: list[BatchEntry]


class JobsQuery(BaseModel):
    """Which files are asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: Annotated[str, Field(min_length=1, max_length=200)]
    after: Annotated[str, Field(pattern=r"^[0-9]{1,20}$")] = "0"
    limit: Annotated[int, Field(ge=1, le=_MAX_FILES)] = 100


class ResultQuery(BaseModel):
    """In which form a result is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str | None = None


async def submit_job(request: Request) -> Response:
    """Enqueue a recording; 202 and where its job stands."""
    api = api_of(request)
    asked = await read_json(request, AskedJob)
    await asyncio.to_thread(check_pressure, api.connection, api.settings)
    job_id, state = await asyncio.to_thread(_submit, api, request, asked)
    shape = JobShape.of(job_id, state, trace_id=trace_of(request).trace_id)
    location = {"Location": f"/jobs/{job_id}"}
    return JSONResponse(shape.model_dump(exclude_none=True), HTTPStatus.ACCEPTED, location)


def _submit(api: Api, request: Request, asked: AskedJob) -> tuple[str, str]:
    settings = api.settings
    model = chosen_model(api.connection, settings, asked.model)
    try:
        options = Options.model_validate({**settings.options.model_dump(), **asked.options})
        audio = AudioOptions.model_validate(
            {**settings.audio.for_job().model_dump(), **asked.audio}
        )
    except ValidationError as error:
        raise Refusal(invalid_options("request", error), param="options") from error
    options = fitted(options, model or settings.model.name)
    with HashCache(server=server_name(api.connection)) as cache:
        found = Recordings(settings, files_of(api), cache).find(asked.source)
    fields = found | {"name": asked.name, "batch": asked.batch, "metadata": asked.metadata}
    job = job_for(settings, options, model, **fields).model_copy(update={"audio": audio})
    submitted = enqueue(api.connection, settings, job, trace_of(request))
    if asked.batch:
        note_batch(api.connection, settings, asked.batch)
    return submitted.job_id, submitted.state


async def get_job(request: Request) -> Response:
    """Say where a job stands."""
    shape = await asyncio.to_thread(_job, api_of(request), request.path_params["job_id"])
    return JSONResponse(shape.model_dump(exclude_none=True))


def _job(api: Api, job_id: str) -> JobShape:
    state = job_state(api.connection, job_id)
    with server_errors(api.connection):
        traceparent: Any = api.connection.hget(job_key(job_id), TRACEPARENT_FIELD)
    more: dict[str, Any] = {"trace_id": trace_id_of(traceparent) or None}
    if state == "started":
        progress = read_progress(api.connection, [job_id]).get(job_id, {})
        more |= {
            name: stored_number(progress[name])
            for name in ("seconds_done", "duration_s")
            if name in progress
        }
    elif isinstance(outcome := read_result(api.connection, job_id), Failure):
        more["error"] = _detail(outcome)
    return JobShape.of(job_id, state, **more)


def _detail(failure: Failure) -> ErrorDetail:
    return error_body(ScribefarmError.from_dict(failure.error.model_dump())).error


async def get_result(request: Request) -> Response:
    """Give a job's result as it is stored, or a transcript in one of the formats."""
    query = read_query(request, ResultQuery)
    api, job_id = api_of(request), request.path_params["job_id"]
    if query.format is not None and query.format not in FORMATS:
        must = f"must be one of {', '.join(FORMATS)}"
        raise Refusal(InvalidOptions("request: format", must, query.format[:100]), param="format")
    await asyncio.to_thread(job_state, api.connection, job_id)
    outcome = await asyncio.to_thread(read_result, api.connection, job_id)
    if outcome is None:
        raise JobNotFound("result", "the job must have ended", job_id)
    if query.format is None:
        return Response(dump_result(outcome), media_type="application/json")
    if not isinstance(outcome, Transcript):
        raise Refusal(ScribefarmError.from_dict(outcome.error.model_dump()))
    text = FORMATS[query.format](outcome, DEFAULT_FORMAT_OPTIONS)
    # Never a page of ours: what a transcript says is a text.
    return Response(text, media_type="text/plain; charset=utf-8")


async def cancel_job(request: Request) -> Response:
    """Cancel a job, for everybody who waits for it; needs web.allow_actions."""
    api, job_id = api_of(request), request.path_params["job_id"]
    if not api.allow_actions:
        raise SourceForbidden("http", "needs --allow-actions: others may wait for the job")
    await asyncio.to_thread(job_state, api.connection, job_id)
    await asyncio.to_thread(lambda: list(cancel_jobs(api.connection, api.settings, [job_id])))
    shape = await asyncio.to_thread(_job, api, job_id)
    return JSONResponse(shape.model_dump(exclude_none=True))


async def list_jobs(request: Request) -> Response:
    """List the files of a batch with their jobs, in no order."""
    query, api = read_query(request, JobsQuery), api_of(request)
    return JSONResponse((await asyncio.to_thread(_files, api, query)).model_dump())


def _files(api: Api, query: JobsQuery) -> FilesOfBatch:
    with server_errors(api.connection):
        if not api.connection.exists(batch_key(query.batch)):
            raise JobNotFound("batch", "must be known to the server", query.batch)
        scanned: Any = api.connection.hscan(
            batch_key(query.batch), cursor=int(query.after), count=query.limit
        )
    cursor, entries = scanned
    files = [(stored_text(name), stored_text(job_id)) for name, job_id in entries.items()]
    views = view_files(api.connection, files)
    return FilesOfBatch(
        data=[FileOfBatch.of(view) for view in views], next=str(cursor) if int(cursor) else None
    )


async def list_batches(request: Request) -> Response:
    """List the batches that were submitted to last."""
    entries = await asyncio.to_thread(_batches, api_of(request))
    return JSONResponse(entries.model_dump())


def _batches(api: Api) -> BatchEntries:
    found: list[BatchEntry] = []
    for name in latest_batches(api.connection, _NUM_BATCHES):
        try:
            found.append(BatchEntry(batch=name, counts=read_counts(api.connection, name)))
        except JobNotFound:
            continue
    return BatchEntries(data=found)


async def get_batch(request: Request) -> Response:
    """Say where a batch stands: counts, what runs, speed and time left."""
    api = api_of(request)
    status: BatchStatus = await asyncio.to_thread(
        batch_status, api.connection, api.settings, request.path_params["name"]
    )
    return Response(status.model_dump_json(), media_type="application/json")
