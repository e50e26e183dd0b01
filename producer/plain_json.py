"""What may cross the farm: text that UTF-8 can carry, and JSON within bounds.

Python's strings may hold lone surrogates (`os.fsdecode` makes them from names that are not UTF-8),
and its lists may be nested so deeply that a result which holds them cannot be written or read.
"""

import json
import math
from typing import Annotated, Any

from pydantic import AfterValidator

# The readers of a result refuse JSON that is nested deeper than 200; the result itself is around it.
MAX_DEPTH = 100
# Metadata comes back in every result and travels with every claim: a note, not a file.
MAX_JSON_BYTES = 65536

_TOO_LARGE = f"must be at most {MAX_JSON_BYTES} bytes of JSON"


class OutOfBounds(ValueError):
    """A value that may not cross the farm: what must hold, and what was found instead."""

    def __init__(self, constraint: str, found: object) -> None:
        super().__init__(constraint, found)
        self.constraint, self.found = constraint, found


def is_text(text: str) -> bool:
    """Return whether UTF-8 can carry a string: it holds no lone surrogate."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def as_text(text: str, limit: int | None = None) -> str:
    """Return the string with a question mark for each lone surrogate, at most `limit` characters."""
    return text[:limit].encode("utf-8", "replace").decode()


def check_json(value: Any) -> None:
    """Accept JSON values within the bounds: text, finite numbers, depth and size.

    Raises:
        OutOfBounds: what is wrong, with the limit and the value.
    """
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise OutOfBounds(f"must be nested at most {MAX_DEPTH} deep", f"more than {MAX_DEPTH}")
        level = [part for each in level for part in _parts(each)]
        # Each part takes a byte at least: an object that holds another many times is no way around.
        if len(level) > MAX_JSON_BYTES:
            raise OutOfBounds(_TOO_LARGE, f"{len(level)} parts")
    try:
        # A number of more than 4300 digits is none that Python writes.
        num_bytes = len(json.dumps(value, ensure_ascii=False).encode())
    except ValueError as error:
        raise OutOfBounds("must hold numbers that JSON can carry", str(error)) from error
    if num_bytes > MAX_JSON_BYTES:
        raise OutOfBounds(_TOO_LARGE, num_bytes)


def _parts(value: Any) -> list[Any]:
    """Return what a list or an object holds, keys too; check everything else."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise OutOfBounds("must have keys that are text", repr(list(value))[:100])
        return [*value, *value.values()]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        _checked_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise OutOfBounds("must hold finite numbers", str(value))
    elif value is not None and not isinstance(value, bool | int):
        raise OutOfBounds("must hold JSON values only", type(value).__name__)
    return []


def _checked_text(text: str) -> str:
    if not is_text(text):
        raise OutOfBounds("must be text that UTF-8 can carry", ascii(text[:100]))
    return text


def _checked_object(value: dict[str, Any]) -> dict[str, Any]:
    check_json(value)
    return value


Text = Annotated[str, AfterValidator(_checked_text)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_checked_object)]
