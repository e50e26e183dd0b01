"""Read a form with one file, a piece at a time: nothing beyond the limits is kept anywhere.

The file goes into a file of ours and is hashed as it comes. Its name is a word for people: no part
of it becomes a path.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from producer.errors import SourceUnreachable, UnsupportedFormat
from producer.plain_json import as_text
from producer.web.api.errors import Refusal
from producer.web.api.form import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    MAX_NAME_CHARS,
    Form,
    FormLimits,
    FormReader,
    damaged_form,
    too_large,
)

FORM_TYPE = "multipart/form-data"

_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 4096
# What stands around the file in a body: boundaries, headers, fields.
_AROUND_BYTES = MAX_FIELDS * (MAX_FIELD_BYTES // 16) + (1 << 20)
# Of the file, kept in memory between two writes.
_WRITE_BYTES = 1 << 18


@asynccontextmanager
async def read_form(request: Request, limits: FormLimits) -> AsyncIterator[Form]:
    """Read the form of a request; its file is removed at the end unless it was moved away.

    Raises:
        Refusal: it is no form, damaged, or larger than the limits.
    """
    boundary = _boundary(request)
    most = limits.max_file_bytes + _AROUND_BYTES
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large(limits, int(declared))
    reader = FormReader(limits)
    try:
        await _feed(request, reader, boundary, limits, most)
        yield reader.form
    finally:
        reader.close()


async def _feed(
    request: Request, reader: FormReader, boundary: bytes, limits: FormLimits, most: int
) -> None:
    num_bytes = 0
    stream = request.stream()
    try:
        parser = MultipartParser(
            boundary,
            reader.callbacks(),
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )
        while chunk := await _next(stream, limits.silence_s):
            num_bytes += len(chunk)
            if num_bytes > most:
                raise too_large(limits, num_bytes)
            parser.write(chunk)
            if reader.num_waiting >= _WRITE_BYTES:
                await asyncio.to_thread(reader.write_out)
        parser.finalize()
    except FormParserError as error:
        raise damaged_form(as_text(str(error), MAX_NAME_CHARS)) from error
    if not reader.has_ended:
        raise damaged_form("it breaks off")
    await asyncio.to_thread(reader.finish)


async def _next(stream: AsyncIterator[bytes], silence_s: float) -> bytes:
    """Return the next piece of a body, b"" at its end."""
    try:
        async with asyncio.timeout(silence_s):
            async for chunk in stream:
                if chunk:
                    return chunk
    except TimeoutError:
        error = SourceUnreachable("request", f"must go on within {silence_s:g} s")
        raise Refusal(error, status=HTTPStatus.REQUEST_TIMEOUT) from None
    return b""


def _boundary(request: Request) -> bytes:
    content_type = request.headers.get("content-type", "")
    kind, parameters = parse_options_header(content_type)
    if kind.lower() != FORM_TYPE.encode():
        found = as_text(kind.decode("latin-1"), MAX_NAME_CHARS)
        raise Refusal(UnsupportedFormat("request", f"content-type must be {FORM_TYPE}", found))
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise damaged_form("its boundary is missing")
    return boundary
