"""Traces: one id from submit to result, in the form of W3C's Trace Context.

A `traceparent` names the trace that a job belongs to and the span that asked for it:
https://www.w3.org/TR/trace-context/#traceparent-header. It travels in the job's hash beside RQ's
data, so it is no part of the job's id: who asks again for known work finds the first one's trace.
"""

import os
import re
import secrets
from typing import NamedTuple, Self

from producer.errors import InvalidOptions

TRACEPARENT_VARIABLE = "TRACEPARENT"
# Field of a job's hash, and of a request over HTTP.
TRACEPARENT_FIELD = "traceparent"

# A later version may have more behind the flags; what stands in front means the same.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^\s]*)?", re.ASCII)
_INVALID_VERSION = "ff"
_OUR_VERSION = "00"
_SAMPLED = "01"
# Longer ones are no identifiers.
_MAX_CHARS = 512


class TraceParent(NamedTuple):
    """A trace and the span in it that asked for the work; all in lower-case hex."""

    trace_id: str
    span_id: str
    flags: str = _SAMPLED

    @classmethod
    def new(cls) -> Self:
        """Return the beginning of a trace of its own."""
        # No id may be all zeros.
        return cls(_drawn(16), _drawn(8))

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Return what a `traceparent` says; None for one that W3C calls invalid, or none."""
        found = _FORM.fullmatch(text) if text and len(text) <= _MAX_CHARS else None
        if found is None:
            return None
        version, trace_id, span_id, flags, rest = found.groups()
        has_zeros = not (trace_id.strip("0") and span_id.strip("0"))
        if version == _INVALID_VERSION or has_zeros or (version == _OUR_VERSION and rest):
            return None
        return cls(trace_id, span_id, flags)

    def __str__(self) -> str:
        return f"{_OUR_VERSION}-{self.trace_id}-{self.span_id}-{self.flags}"


def checked_traceparent(text: str) -> TraceParent:
    """Return what a `traceparent` says.

    Raises:
        InvalidOptions: it is none.
    """
    found = TraceParent.read(text)
    if found is None:
        raise InvalidOptions("traceparent", "must be 00-TRACE-SPAN-FLAGS in lower-case hex")
    return found


def traceparent_here() -> TraceParent:
    """Return the trace that $TRACEPARENT names, or a new one; W3C says to ignore what is none."""
    return TraceParent.read(os.environ.get(TRACEPARENT_VARIABLE)) or TraceParent.new()


def trace_id_of(stored: bytes | str | None) -> str:
    """Return the trace of a stored `traceparent`; "" for what is none."""
    text = stored.decode(errors="replace") if isinstance(stored, bytes) else stored
    found = TraceParent.read(text)
    return found.trace_id if found else ""


def _drawn(num_bytes: int) -> str:
    while not (drawn := secrets.token_hex(num_bytes)).strip("0"):
        pass
    return drawn
