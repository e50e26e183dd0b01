"""The body of a request: JSON within limits, and what a client still sends to who has refused it."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Message

from producer.errors import OutOfRange, UnsupportedFormat
from producer.plain_json import as_text
from producer.web.api.errors import Refusal

JSON_TYPE = "application/json"
# Options, a prompt and metadata; files travel otherwise.
MAX_JSON_BYTES = 1 << 20

# A client that still sends hears its refusal only when it is done: meanwhile that is dropped.
_LINGER_S = 5.0
_LINGER_BYTES = 1 << 28
_MAX_QUOTED = 100

T = TypeVar("T", bound=BaseModel)


class Body:
    """Knows whether all of a request has come."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._is_over = False

    async def receive(self) -> Message:
        """Return the next message, as ASGI has it."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_over = True
        return message

    async def drop(self) -> None:
        """Take what is still to come, for a while, and keep nothing of it."""
        num_bytes = 0
        try:
            async with asyncio.timeout(_LINGER_S):
                while not self._is_over and num_bytes < _LINGER_BYTES:
                    num_bytes += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return


async def read_json(request: Request, model: type[T]) -> T:
    """Return the JSON body of a request as a model.

    Raises:
        Refusal: it is no JSON, larger than `MAX_JSON_BYTES`, or not what the model has.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON_TYPE:
        found = as_text(kind, _MAX_QUOTED)
        raise Refusal(UnsupportedFormat("request", f"content-type must be {JSON_TYPE}", found))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON_BYTES:
            raise Refusal(OutOfRange("request", f"must have at most {MAX_JSON_BYTES} bytes"))
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise Refusal.of_validation(error) from error
