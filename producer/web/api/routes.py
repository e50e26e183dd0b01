"""Every address of the HTTP front, one line each: routes and the OpenAPI document come from it."""

from typing import NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from producer.batches.watching import BatchStatus
from producer.events import Event
from producer.result import Failure, Transcript
from producer.web.api import batches, events, files, jobs, models, transcriptions
from producer.web.api.asked import (
    TRANSCRIPTIONS,
    TRANSLATIONS,
    AskedTranscription,
    AskedTranslation,
)
from producer.web.api.openapi import document
from producer.web.api.paging import PageQuery
from producer.web.api.shapes import (
    BatchList,
    BatchShape,
    Deleted,
    FileList,
    FileShape,
    ModelList,
    ModelShape,
    Transcription,
    VerboseTranscription,
)
from producer.web.api.state import Handler, answered


class Endpoint(NamedTuple):
    """One address: what it takes, and what it gives.

    Attributes:
        form: Fields beside a file, of a form.
        body: JSON.
        query: What may stand behind the question mark.
        gives: Models of its answer; several are alternatives.
        others: Media types of its answer beside or instead of JSON.
        status: Of its answer.
    """

    method: str
    path: str
    handler: Handler
    form: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    gives: tuple[type[BaseModel], ...] = ()
    others: tuple[str, ...] = ()
    status: int = 200


_TEXTS = ("text/plain", "application/x-subrip", "text/vtt")
_TRANSCRIBED = (Transcription, VerboseTranscription)
_SHOWN = (jobs.JobShape,)

ENDPOINTS = (
    Endpoint(
        "POST",
        TRANSCRIPTIONS,
        transcriptions.transcribe,
        form=AskedTranscription,
        gives=_TRANSCRIBED,
        others=_TEXTS,
    ),
    Endpoint(
        "POST",
        TRANSLATIONS,
        transcriptions.transcribe,
        form=AskedTranslation,
        gives=_TRANSCRIBED,
        others=_TEXTS,
    ),
    Endpoint("GET", "/v1/models", models.list_models, gives=(ModelList,)),
    Endpoint("GET", "/v1/models/{model:path}", models.get_model, gives=(ModelShape,)),
    Endpoint("POST", "/v1/files", files.upload_file, form=files.AskedFile, gives=(FileShape,)),
    Endpoint("GET", "/v1/files", files.list_files, query=PageQuery, gives=(FileList,)),
    Endpoint("GET", "/v1/files/{file_id}", files.get_file, gives=(FileShape,)),
    Endpoint("DELETE", "/v1/files/{file_id}", files.delete_file, gives=(Deleted,)),
    Endpoint("GET", "/v1/files/{file_id}/content", files.file_content, others=(files.LINES_TYPE,)),
    Endpoint(
        "POST", "/v1/batches", batches.create_batch, body=batches.AskedBatch, gives=(BatchShape,)
    ),
    Endpoint(
        "GET", "/v1/batches", batches.list_openai_batches, query=PageQuery, gives=(BatchList,)
    ),
    Endpoint("GET", "/v1/batches/{batch_id}", batches.get_openai_batch, gives=(BatchShape,)),
    Endpoint(
        "POST", "/v1/batches/{batch_id}/cancel", batches.cancel_openai_batch, gives=(BatchShape,)
    ),
    Endpoint("POST", "/jobs", jobs.submit_job, body=jobs.AskedJob, gives=_SHOWN, status=202),
    Endpoint("GET", "/jobs", jobs.list_jobs, query=jobs.JobsQuery, gives=(jobs.FilesOfBatch,)),
    Endpoint("GET", "/jobs/{job_id}", jobs.get_job, gives=_SHOWN),
    Endpoint(
        "GET",
        "/jobs/{job_id}/result",
        jobs.get_result,
        query=jobs.ResultQuery,
        gives=(Transcript, Failure),
        others=("text/plain",),
    ),
    Endpoint("POST", "/jobs/{job_id}/cancel", jobs.cancel_job, gives=_SHOWN),
    Endpoint("GET", "/batches", jobs.list_batches, gives=(jobs.BatchEntries,)),
    Endpoint("GET", "/batches/{name:path}", jobs.get_batch, gives=(BatchStatus,)),
    Endpoint(
        "GET",
        "/events",
        events.follow_events,
        query=events.EventsQuery,
        others=("text/event-stream",),
    ),
)
# Described beside what the addresses give: the data of each event of /events.
_ALSO = (Event,)


async def openapi(request: Request) -> Response:
    """Describe all of this, as OpenAPI has it."""
    del request
    return JSONResponse(document(ENDPOINTS, _ALSO))


def routes() -> list[Route]:
    """Return the routes, each with errors in OpenAI's form."""
    made = [Route(each.path, answered(each.handler), methods=[each.method]) for each in ENDPOINTS]
    return [*made, Route("/openapi.json", answered(openapi), methods=["GET"])]
