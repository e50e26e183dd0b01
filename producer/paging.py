"""Split a stream into pages: one goes to the server at a time, and one is held in memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter; reads a page when it is asked for.

    `itertools.batched` does the same with tuples from Python 3.12 on.
    """
    stream = iter(items)
    while page := list(islice(stream, size)):
        yield page
