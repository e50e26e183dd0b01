"""The kinds of request that a transcription makes of the engine, whatever the model.

A transcription is a generator: it yields a request and is sent the reply. There are three kinds:

- `Batched`: computed once, together with requests of the same type from other recordings;
- `Rows`: joins the stepper's batch and leaves it some steps later;
- `Compute`: host work that runs beside the engine's thread.

Between requests it may yield a `Checkpoint`, which is not answered. A model family makes subclasses
of the first two for what its network computes; the engine never looks inside one.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from worker.engine.messages import Checkpoint

Reply = TypeVar("Reply")
Result = TypeVar("Result")


class Request(Generic[Reply]):
    """Something that a transcription waits for; the reply is of the type in brackets."""


class Batched(Request[Reply]):
    """Computed together with other requests of its own type; see `Family.computations`."""


class Rows(Request[Reply]):
    """Decoded step by step in the rows of a batch; see `Stepper`."""


@dataclass(frozen=True)
class Compute(Request[Reply]):
    """Host work of some milliseconds, done in a thread of its own.

    Attributes:
        run: Called there; its result is the reply. It must not touch the device.
    """

    run: Callable[[], Reply]


Requests: TypeAlias = Generator[Request[Any] | Checkpoint, object, Result]


def ask(request: Request[Reply]) -> Requests[Reply]:
    """Make a request from within a transcription; used with `yield from`, which gives the reply."""
    return cast("Reply", (yield request))
