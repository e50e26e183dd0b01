"""The latest lines of a recording at work: in its progress hash, for whoever looks on.

The hash's field `lines` is JSON, `[[start, end, text], ...]`: the latest segments, the oldest first.
"""

import json
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from producer.result import Segment

# Enough for a person to see where a recording is: some minutes of speech.
MAX_CHARS = 2000
# What JSON writes for so much text and its times, at twelve characters a character and segment.
_MAX_JSON_CHARS = 50_000

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Line(NamedTuple):
    """A segment's text with its times in seconds of the recording."""

    start: Seconds
    end: Seconds
    text: str


_LINES = TypeAdapter(list[Line])


def latest_lines(latest_first: Iterable[Segment]) -> list[Line]:
    """Return the last segments with text, in order: as many as fit into `MAX_CHARS`, at least one.

    Of a longer segment its last characters are kept.
    """
    lines: list[Line] = []
    room = MAX_CHARS
    for segment in latest_first:
        text = segment.text[-MAX_CHARS:]
        if lines and len(text) > room:
            break
        room -= len(text)
        if text.strip():
            lines.append(Line(segment.start, segment.end, text))
    return lines[::-1]


def dump_lines(lines: list[Line]) -> str:
    """Return the field's JSON."""
    return json.dumps(lines, ensure_ascii=False)


def read_lines(stored: str) -> list[Line]:
    """Return what `dump_lines` wrote; none if anybody else wrote something else."""
    if not stored or len(stored) > _MAX_JSON_CHARS:
        return []
    try:
        return _LINES.validate_json(stored)
    except ValidationError:
        return []
