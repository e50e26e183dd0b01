"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a recording in, its text out.

The answer is waited for; with `Prefer: respond-async`, or `?async=true`, it is 202 and where the job
stands. A client that goes away leaves its job in the queue: the same request finds it, or its text.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from producer.errors import JobTimeout, ScribefarmError
from producer.queue import Submitted
from producer.result import Failure, Transcript
from producer.web.api.asked import (
    MEDIA_TYPES,
    AskedTranslation,
    asked_of,
    form_values,
    options_of,
)
from producer.web.api.errors import Refusal
from producer.web.api.form import FormFile
from producer.web.api.jobs import JobShape
from producer.web.api.model_choice import chosen_model
from producer.web.api.multipart import read_form
from producer.web.api.state import Api, api_of, trace_of
from producer.web.api.storing import check_kind, check_pressure, store_upload, upload_limits
from producer.web.api.submitting import Patience, enqueue, job_for

_WAIT = re.compile(r"wait=([0-9]{1,6})", re.ASCII)


class Preference(NamedTuple):
    """What `Prefer` says (RFC 7240): whether 202 will do, and after how many seconds."""

    is_async: bool
    wait_s: float

    @classmethod
    def of(cls, request: Request, wait_s: float) -> "Preference":
        """Read the header, or `?async=true`."""
        words = ",".join(request.headers.getlist("prefer")).replace(";", ",").split(",")
        asked = {word.strip().lower() for word in words}
        is_async = "respond-async" in asked or request.query_params.get("async") == "true"
        limits = [float(found[1]) for word in asked if (found := _WAIT.fullmatch(word))]
        return cls(is_async, min([wait_s, *limits]) if limits or not is_async else 0.0)


async def transcribe(request: Request) -> Response:
    """Write down a recording, or translate it into English."""
    api = api_of(request)
    preference = Preference.of(request, api.settings.http.wait_s)
    # Before a byte is taken.
    await asyncio.to_thread(check_pressure, api.connection, api.settings)
    async with read_form(request, upload_limits(api.settings)) as form:
        asked = asked_of(request.url.path, form_values(form.fields))
        file = form.whole_file()
        check_kind(file)
        submitted = await asyncio.to_thread(_submit, api, request, asked, file)
    return await _answer(request, asked, submitted, preference, file.name)


def _submit(api: Api, request: Request, asked: AskedTranslation, file: FormFile) -> Submitted:
    model = chosen_model(api.connection, api.settings, asked.model)
    options = options_of(asked, api.settings, model or api.settings.model.name)
    stored = store_upload(api.connection, api.settings, file)
    job = job_for(api.settings, options, model, name=file.name, **stored._asdict())
    return enqueue(api.connection, api.settings, job, trace_of(request))


async def _answer(
    request: Request, asked: AskedTranslation, submitted: Submitted, wait: Preference, name: str
) -> Response:
    location = {"Location": f"/jobs/{submitted.job_id}"}
    outcome = await _outcome(request, submitted.job_id, wait.wait_s)
    if isinstance(outcome, Transcript):
        return rendered(asked, outcome)
    if isinstance(outcome, Failure):
        raise Refusal(failure_of(outcome, name), headers=location)
    return _not_yet(submitted, wait, location)


async def _outcome(request: Request, job_id: str, wait_s: float) -> Transcript | Failure | None:
    """Wait for a job while the client does."""
    if not wait_s:
        return None
    api = api_of(request)
    patience = Patience(api.connection, api.settings, job_id)
    async with _while_connected(request):
        return await api.waiters.wait(job_id, wait_s, patience)


def _not_yet(submitted: Submitted, preference: Preference, location: dict[str, str]) -> Response:
    job_id = submitted.job_id
    if preference.is_async:
        body = JobShape.of(job_id, submitted.state).model_dump(exclude_none=True)
        headers = location | {"Preference-Applied": "respond-async"}
        return JSONResponse(body, HTTPStatus.ACCEPTED, headers)
    must = f"the text must come within {preference.wait_s:g} s; the job goes on: /jobs/{job_id}"
    raise Refusal(JobTimeout("http", must), headers=location)


def rendered(asked: AskedTranslation, transcript: Transcript) -> Response:
    """Return a transcript in the form that was asked for."""
    media_type = MEDIA_TYPES[asked.response_format]
    made = asked.render(transcript)
    if isinstance(made, str):
        return Response(made, media_type=f"{media_type}; charset=utf-8")
    return Response(made.model_dump_json(exclude_none=True), media_type=media_type)


def failure_of(failure: Failure, name: str) -> ScribefarmError:
    """Return the error of a job; it names the recording as the client does, not where we keep it."""
    told = failure.error.model_dump()
    for part in ("context", "constraint", "value"):
        if failure.source and isinstance(told[part], str):
            told[part] = told[part].replace(failure.source, name)
    return ScribefarmError.from_dict(told)


@contextlib.asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """End the block when the client goes away.

    Raises:
        ClientDisconnect: it has.
    """
    waiting = asyncio.current_task()
    has_gone = False

    async def watch() -> None:
        nonlocal has_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_gone = True
        if waiting is not None:
            waiting.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not has_gone:
            raise
        if waiting is not None:
            waiting.uncancel()
        raise ClientDisconnect from None
    finally:
        watching.cancel()
