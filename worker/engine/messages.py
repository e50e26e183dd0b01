"""What the farm worker and the engine hand each other: plain records, no tensors, no Redis."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from producer.errors import ScribefarmError
from producer.job import Job
from producer.result import Model, Segment, Transcript


@dataclass(frozen=True)
class Writer:
    """What wrote a checkpoint: only the same goes on from it.

    Attributes:
        family: Name of the model's family.
        model: The model's name.
        revision: Its hub commit, or the hash of its content.
        num_vocab: Its token ids are below this; 0 for a family without token ids.
    """

    family: str
    model: str
    revision: str
    num_vocab: int

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Checkpoint:
    """Where a recording stands; enough for another worker to go on with the same text.

    Attributes:
        segments: Finished segments so far.
        language: Language code, once known.
        state: What else the model's family needs, as JSON values. Only the family that wrote it
            reads it.
        writer: Whose tokens these are; the engine fills it in.
    """

    segments: tuple[Segment, ...] = ()
    language: str | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    writer: Writer | None = None

    # A checkpoint of another version's shape is refused, never read in part.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Ticket:
    """One claimed job on its way into the engine; `execution_id` is the fence."""

    execution_id: str
    job_id: str
    job: Job
    checkpoint: Checkpoint | None = None
    trace_id: str = ""

    def named(self) -> dict[str, str]:
        """Return what log lines say of the job."""
        return {"job_id": self.job_id, **({"trace_id": self.trace_id} if self.trace_id else {})}


@dataclass(frozen=True)
class Opened:
    """A recording's file is open: a reading thread has it. Comes once, before all other events.

    Attributes:
        duration_s: Audio seconds that its header declares; None if it declares none.
    """

    execution_id: str
    duration_s: float | None


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
    """A recording passed a checkpoint.

    Attributes:
        seconds_done: Audio seconds that need not be looked at again.
        duration_s: Audio seconds in all.
        checkpoint: From where another worker could go on.
    """

    execution_id: str
    seconds_done: float
    duration_s: float
    checkpoint: Checkpoint


Event = Opened | Done | Failed | Progress


@dataclass(frozen=True)
class EngineFigures:
    """What an engine is and has done since its start, for the farm's monitors.

    Attributes:
        family: Name of the model's family.
        slots: Rows that are stepped together at most; of a family without rows, requests.
        steps: Turns in which rows were stepped, or batches; `row_steps` counts the rows in them.
        step_s: Seconds that they took.
        memory_bytes: Most device memory in use at once.
        memory_limit_bytes: Most that may be used.
    """

    family: str = ""
    slots: int = 0
    steps: int = 0
    row_steps: int = 0
    step_s: float = 0.0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0


class Engine(Protocol):
    """What the farm worker needs of an engine; every method may be called from any thread."""

    capacity: int
    """Recordings taken at once: those that are decoded, and a small read-ahead."""

    @property
    def model(self) -> Model:
        """The pinned model."""

    @property
    def figures(self) -> EngineFigures:
        """What it is, and what it has done so far."""

    @property
    def num_lost_threads(self) -> int:
        """Reading threads that hang in a disk or share at the moment."""

    @property
    def can_read(self) -> bool:
        """Whether more recordings should come; False while too many reading threads are lost.

        The recordings that hang have ended when it is False: their events are there to be polled.
        """

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
