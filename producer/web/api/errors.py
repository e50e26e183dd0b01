"""Answers to what goes wrong, in OpenAI's form with our code; the status is that of the code."""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.responses import JSONResponse, Response

from producer.errors import ScribefarmError
from producer.http_status import http_status
from producer.job import invalid_options
from producer.masking import mask_urls
from producer.plain_json import as_text

# Statuses after which the same request may succeed soon.
_COME_AGAIN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# Of a message; a value that was refused may be as long as a request.
_MAX_MESSAGE_CHARS = 2000


class ErrorDetail(BaseModel):
    """What went wrong.

    Attributes:
        message: For people.
        type: OpenAI's kind: `invalid_request_error`, `rate_limit_error` or `server_error`.
        param: The field of the request that is wrong, if it is one.
        code: Ours, as in `producer.errors`.
    """

    model_config = ConfigDict(frozen=True)

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """What every answer with a status from 400 on holds."""

    model_config = ConfigDict(frozen=True)

    error: ErrorDetail


class Refusal(Exception):
    """An answer that is an error, with what only HTTP knows of it.

    Attributes:
        error: What is wrong.
        status: Of the answer; that of the error's code unless HTTP has a better one.
        param: The field of the request that is wrong.
        headers: Of the answer.
    """

    def __init__(
        self,
        error: ScribefarmError,
        *,
        status: HTTPStatus | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error, self.param = error, param
        self.status = status or http_status(error.code)
        self.headers = headers or {}

    @classmethod
    def of_validation(cls, error: ValidationError) -> "Refusal":
        """Return the refusal of a request whose first wrong field pydantic has found."""
        path = [str(part) for part in error.errors(include_url=False)[0]["loc"]]
        return cls(invalid_options("request", error), param=path[0] if path else None)


def error_body(error: ScribefarmError, param: str | None = None) -> ErrorBody:
    """Return an error in OpenAI's form; addresses in it have no secrets."""
    message = as_text(mask_urls(str(error)), _MAX_MESSAGE_CHARS)
    kind = _type_of(http_status(error.code))
    return ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=error.code))


def error_answer(refusal: Refusal, retry_after_s: int) -> Response:
    """Return the answer to a request that is refused, or whose job failed."""
    headers = dict(refusal.headers)
    if refusal.status in _COME_AGAIN:
        headers.setdefault("Retry-After", str(retry_after_s))
    body: dict[str, Any] = error_body(refusal.error, refusal.param).model_dump()
    body["error"]["type"] = _type_of(refusal.status)
    return JSONResponse(body, refusal.status, headers)


def _type_of(status: HTTPStatus) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_error"
    is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return "server_error" if is_ours else "invalid_request_error"
