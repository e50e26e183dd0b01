"""Fields of RQ's hashes as RQ writes them, read and written without importing RQ, which is slow.

The field `data` of a job holds function, instance, args and kwargs in compressed JSON, as RQ's
`serializer="json"` writes it. Another program may have written it, so it is untrusted input.
"""

import json
import zlib
from datetime import UTC, datetime
from typing import Any

from producer.errors import JobRefused

# A job is a path and options; a megabyte of it is a mistake or an attack.
MAX_FIELD_BYTES = 1 << 20


def dump_call(function: str, kwargs: dict[str, Any]) -> bytes:
    """Return the field of a job that calls a function with keyword arguments."""
    return zlib.compress(json.dumps([function, None, [], kwargs]).encode())


def load_call(data: bytes) -> tuple[Any, Any, Any, Any]:
    """Return function, instance, args and kwargs, each any JSON value.

    Data that is not compressed is read as it is, as RQ does. At most `MAX_FIELD_BYTES` are
    decompressed.

    Raises:
        JobRefused: not JSON, not four values, or too large.
    """
    try:
        function, instance, args, kwargs = json.loads(_decompress(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise JobRefused(
            "job: data", 'must be RQ\'s JSON; enqueue with Queue(serializer="json")'
        ) from error
    return function, instance, args, kwargs


def format_time(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as RQ writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str | bytes) -> float:
    """Return a time that RQ wrote, in seconds since the epoch.

    Raises:
        ValueError: it is no time.
    """
    written = text.decode() if isinstance(text, bytes) else text
    if not written.endswith("Z"):
        raise ValueError(written)
    return datetime.fromisoformat(written).timestamp()


def _decompress(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(data, MAX_FIELD_BYTES)
    except zlib.error:
        return data
    if unpacker.unconsumed_tail:
        raise JobRefused("job: data", f"must be at most {MAX_FIELD_BYTES} bytes")
    return unpacked
