"""What a web server answers about a recording: its version, its kind, and its bytes as they come."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import urllib3
from urllib3.connection import HTTPConnection

from producer.errors import SourceUnreachable, UnsupportedFormat
from producer.source import SourceVersion

PIECE_BYTES = 1 << 16
_PARTIAL = 206
# What a server sends in the place of audio: a page that asks to sign in, an error as JSON.
_NO_AUDIO = ("text/", "image/", "application/json", "application/xml", "application/xhtml")


class BrokenOff(Exception):
    """The server ended its answer before it was whole."""


@dataclass
class Answer:
    """An answer of a server, whose body is still to be read; closed at the end of its context.

    Attributes:
        name: The source, as messages name it.
        status: 200, 206 for a part, or what `ask` was told to accept.
    """

    name: str
    status: int
    headers: Mapping[str, str]
    _connection: HTTPConnection = field(repr=False)
    _response: urllib3.BaseHTTPResponse = field(repr=False)

    @property
    def length(self) -> int | None:
        """Return how many bytes of body the server promises; None if it does not say."""
        return _number(self.headers.get("content-length"))

    @property
    def part(self) -> tuple[int, int | None] | None:
        """Return where a part begins, and the whole's size if it is said; None of a whole answer."""
        if self.status != _PARTIAL:
            return None
        unit, _, rest = self.headers.get("content-range", "").partition(" ")
        span, _, whole = rest.partition("/")
        start = _number(span.partition("-")[0])
        return (start, _number(whole)) if unit.lower() == "bytes" and start is not None else None

    @property
    def version(self) -> SourceVersion:
        """Return what the server says of the source as a whole."""
        part = self.part
        size = part[1] if part else self.length
        return SourceVersion.of(self.headers.get("etag"), self.headers.get("last-modified"), size)

    def check_is_audio(self) -> None:
        """Refuse what says of itself that it is no audio, before its body is read.

        Raises:
            UnsupportedFormat: a page, an image, or something that was packed on the way.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith(_NO_AUDIO):
            raise UnsupportedFormat(self.name, "the server must send audio", kind[:100])
        packed = self.headers.get("content-encoding", "").strip().lower()
        if packed not in {"", "identity"}:
            limit = "the server must send the bytes as they are"
            raise UnsupportedFormat(self.name, limit, packed[:100])

    def read_some(self) -> bytes:
        """Return what has come of the body, at most `PIECE_BYTES`; b"" at its end.

        Raises:
            BrokenOff: the connection ended before the body did.
            SourceUnreachable: nothing came for the timeout.
        """
        try:
            return self._response.read1(PIECE_BYTES, decode_content=False) or b""
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            raise SourceUnreachable(self.name, "the server must go on sending") from None
        except (
            urllib3.exceptions.HTTPError,
            http.client.HTTPException,
            OSError,
            ValueError,
        ) as error:
            raise BrokenOff(type(error).__name__) from None

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _number(text: str | None) -> int | None:
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None  # noqa: PLR2004 beyond 64 bits
