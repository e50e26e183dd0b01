"""What the farm worker and the engine hand each other: plain records, no tensors, no Redis."""

from dataclasses import dataclass, field
from typing import Protocol

from producer.errors import ScribefarmError
from producer.job import Job
from producer.result import Segment, Transcript


@dataclass(frozen=True)
class Checkpoint:
    """Where a recording stands between two windows; enough to go on with the same text.

    Attributes:
        seek: Next mel frame (10 ms) to decode.
        segments: Finished segments so far.
        prompt_reset_since: How many tokens of the initial prompt and of the segments later
            windows are not conditioned on.
        language: Language code, once known.
    """

    seek: int = 0
    segments: tuple[Segment, ...] = ()
    prompt_reset_since: int = 0
    language: str | None = None
    state: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ticket:
    """One claimed job on its way into the engine; `execution_id` is the fence."""

    execution_id: str
    job_id: str
    job: Job
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Done:
    """A recording left the engine with its transcript; queue time and worker name are the farm's."""

    execution_id: str
    transcript: Transcript


@dataclass(frozen=True)
class Failed:
    """A recording left the engine with an error."""

    execution_id: str
    error: ScribefarmError


@dataclass(frozen=True)
class Progress:
    """A recording finished a window.

    Attributes:
        seconds_done: Audio seconds behind us.
        duration_s: Audio seconds in all.
        checkpoint: From where another worker could go on.
    """

    execution_id: str
    seconds_done: float
    duration_s: float
    checkpoint: Checkpoint


Event = Done | Failed | Progress


class Engine(Protocol):
    """What the farm worker needs of an engine; every method may be called from any thread."""

    capacity: int
    """Recordings taken at once: decoder rows and a small read-ahead."""

    def submit(self, ticket: Ticket) -> None:
        """Take a recording; its `Done` or `Failed` follows in `poll`, exactly once."""

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        """Drop a recording; it ends as `Failed(error)` unless it was done already."""

    def poll(self, timeout_s: float) -> list[Event]:
        """Return what happened since the last call; wait up to `timeout_s` for the first event.

        Raises:
            ScribefarmError: the engine itself is broken and takes no more work.
        """

    def stop(self) -> None:
        """Give up all work, without events, and end the engine's threads."""
