"""The Python API for programs with an event loop.

Each call runs in a thread, and what it needs is imported there too: the first one loads redis and
pydantic, which would hold up the loop for a good part of a second.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

# Names in it are looked up, and so imported, when they are used: in the thread.
import producer

if TYPE_CHECKING:
    from producer.api import Submission
    from producer.result import Failure, Transcript
    from producer.settings import Settings


async def submit_async(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], **request: Any
) -> "Submission":
    """Do as `submit`, without blocking the event loop."""
    return await asyncio.to_thread(lambda: producer.submit(paths, **request))


async def results_async(
    batch: str,
    *,
    timeout_s: float | None = None,
    no_worker_s: float | None = None,
    settings: "Settings | None" = None,
) -> AsyncIterator[tuple[str, "Transcript | Failure"]]:
    """Do as `results`, without blocking the event loop."""
    stream = await asyncio.to_thread(
        lambda: producer.results(
            batch, timeout_s=timeout_s, no_worker_s=no_worker_s, settings=settings
        )
    )
    while (item := await asyncio.to_thread(next, stream, None)) is not None:
        yield item
