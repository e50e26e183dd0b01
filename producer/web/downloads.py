"""A transcript as a file of every format, under a name that no browser misunderstands."""

import re
import unicodedata
from urllib.parse import quote

from starlette.responses import Response

from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS, file_extension
from producer.result import Transcript

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._ -]+")
_MAX_NAME_CHARS = 120


def download(transcript: Transcript, name: str, format_name: str) -> Response:
    """Answer with a file: never shown as a page, whatever it holds."""
    text = FORMATS[format_name](transcript, DEFAULT_FORMAT_OPTIONS)
    headers = {
        "Content-Disposition": disposition(f"{_stem(name)}.{file_extension(format_name)}"),
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    kind = "application/json" if format_name == "json" else "text/plain"
    # Lone surrogates of a result are no UTF-8.
    return Response(text.encode("utf-8", "replace"), 200, headers, kind)


def disposition(file_name: str) -> str:
    """Return a header that gives a file its name: in ASCII, and as it is (RFC 6266, RFC 8187)."""
    clean = "".join(
        char if unicodedata.category(char)[0] != "C" and char not in '/\\:"' else "_"
        for char in file_name
    )
    plain = _NOT_PLAIN.sub("_", clean).strip(". ") or "transcript"
    encoded = quote(clean.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


def _stem(name: str) -> str:
    base = name.rpartition("/")[2]
    stem = base.rpartition(".")[0] or base
    return stem[-_MAX_NAME_CHARS:] or "transcript"
