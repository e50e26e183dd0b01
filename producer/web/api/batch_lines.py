"""A line of a batch's file: what it asks for, or what is wrong with it."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.errors import InvalidOptions, ScribefarmError
from producer.plain_json import Text, as_text
from producer.web.api.asked import ASKED, AskedTranslation, asked_of
from producer.web.api.errors import Refusal, error_body

# A prompt, a name and a path; files do not stand in lines.
MAX_LINE_BYTES = 64 * 1024
_MAX_ID_CHARS = 500
# It is kept for each line.
_MAX_MESSAGE_CHARS = 500


class AskedLine(BaseModel):
    """A line, as OpenAI's Batch API has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    custom_id: Annotated[Text, Field(min_length=1, max_length=_MAX_ID_CHARS)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


class KeptLine(BaseModel):
    """What is kept of a line: its job, or its error.

    Attributes:
        number: Its line in the file, from 1.
        asked: The fields of the request that say what its answer is.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int
    custom_id: str | None = None
    job_id: str = ""
    asked: dict[str, Any] = {}
    error: dict[str, Any] | None = None

    def asked_of(self, endpoint: str) -> AskedTranslation:
        """Return the request."""
        return ASKED[endpoint].model_validate(self.asked)


class Line(NamedTuple):
    """A sound line: who asks, for which recording, and for what."""

    number: int
    custom_id: str
    file: str
    asked: AskedTranslation

    def kept(self, job_id: str) -> KeptLine:
        """Return what is kept once its job is enqueued."""
        asked = self.asked.model_dump(mode="json", exclude_defaults=True)
        return KeptLine(number=self.number, custom_id=self.custom_id, job_id=job_id, asked=asked)


def damaged(
    number: int, error: ScribefarmError, custom_id: str | None = None, param: str | None = None
) -> KeptLine:
    """Return what is kept of a line that became no job."""
    detail = error_body(error, param).error.model_dump()
    detail["message"] = detail["message"][:_MAX_MESSAGE_CHARS]
    return KeptLine(number=number, custom_id=custom_id, error=detail)


def read_line(number: int, text: bytes, endpoint: str) -> Line | KeptLine:
    """Return what a line asks for; one that is damaged as what is wrong with it."""
    custom_id = None
    try:
        if len(text) > MAX_LINE_BYTES:
            raise InvalidOptions("line", f"must have at most {MAX_LINE_BYTES} bytes", len(text))
        line = AskedLine.model_validate_json(text)
        custom_id = line.custom_id
        if not custom_id.isprintable():
            custom_id = None
            raise InvalidOptions("line: custom_id", "must be printable")
        if line.url != endpoint:
            found = as_text(line.url, 100)
            raise InvalidOptions("line: url", f"must be that of the batch, {endpoint}", found)
        body = dict(line.body)
        file = body.pop("file", None)
        if not isinstance(file, str) or not 1 <= len(file) <= 4096:  # noqa: PLR2004 a job's source
            raise InvalidOptions("line: body.file", "must be a file id, a path or an address")
        return Line(number, custom_id, file, asked_of(endpoint, body))
    except ValidationError as error:
        refusal = Refusal.of_validation(error)
        return damaged(number, refusal.error, custom_id, refusal.param)
    except Refusal as refusal:
        return damaged(number, refusal.error, custom_id, refusal.param)
    except ScribefarmError as error:
        return damaged(number, error, custom_id)


def split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file without their ends; of one that is too long what shows that it is."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line.rstrip(b"\r") for line in lines)
        # The remainder of a line without end: kept just so far that it is seen to be one.
        rest = rest[: MAX_LINE_BYTES + 1]
    if rest:
        yield rest.rstrip(b"\r")
