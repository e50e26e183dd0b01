"""Work that is handed to the device part by part: generators that give a result at their end."""

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def run_through(parts: Generator[None, None, Result]) -> Result:
    """Return what a generator returns at its end."""
    while True:
        try:
            next(parts)
        except StopIteration as ended:
            result: Result = ended.value
            return result
