"""What is known of a worker: what it says of itself with each heartbeat, and what the server adds.

A worker writes `WorkerFacts` as one JSON document (`lua/roster.lua`). Whoever reads it trusts none of
it: sizes, types and counts are checked, and a document that does not pass is shown as damaged.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from producer.plain_json import Text, as_text

# A document is 1 to 3 kB; a larger one is damaged, and is not sent to who asks for it.
MAX_FACTS_BYTES = 65_536
# Recordings in hand that are named, and characters of a name.
MAX_RECORDINGS, MAX_NAME = 12, 160
MAX_MESSAGE = 300
MAX_QUEUES, MAX_LABEL = 1000, 4096
# Beyond any count, size in bytes, time since the epoch or rate that a worker has.
_MAX_NUMBER = 2**53

Count = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
Number = Annotated[float, Field(ge=0, le=_MAX_NUMBER, allow_inf_nan=False)]
Name = Annotated[Text, Field(max_length=MAX_NAME)]
# Of a hub's repository or a folder.
Label = Annotated[Text, Field(max_length=MAX_LABEL)]

Mark = Literal["lost", "no_heartbeat", "damaged", "slow", "reading_hangs"]
"""Why a person should look at a worker."""

State = Literal["lost", "draining", "paused", "asleep", "busy", "idle"]
"""What a worker does, the first of these that holds."""


class LastError(BaseModel):
    """The last error that one of a worker's recordings ended or was tried again with."""

    model_config = ConfigDict(frozen=True)

    code: Annotated[Text, Field(max_length=100)]
    message: Annotated[Text, Field(max_length=MAX_MESSAGE)] = ""
    at_s: Number = 0.0


class WorkerFacts(BaseModel):
    """What a worker says of itself; numbers are of its last five minutes where nothing else is said.

    Attributes:
        family, model, revision, dtype: Of the pinned weights.
        version: Of scribefarm.
        lease_s: Seconds without a heartbeat after which it counts as lost.
        capacity: Recordings that it takes at once.
        in_flight: Recordings that it has in hand.
        slots: Rows that it decodes together at most.
        rows: Mean rows of a step; None if there was none.
        step_s: Mean seconds of a step; None if there was none.
        audio_s_per_s: Audio seconds done in a second with work in hand; None without any.
        bench_audio_s_per_s: What `worker.bench_speed` says; None if that is not set.
        memory_bytes: Most device memory in use at once, since the start.
        memory_limit_bytes: Most that it may use.
        resident_bytes: Most memory of the process at once.
        lost_threads: Reading threads that hang in a share; at 8 it claims nothing more.
        recordings: Names of some of the recordings in hand, the first 160 characters of each.
        started_at_s: By the worker's own clock, seconds since the epoch.
        num_succeeded, num_failed: Jobs that it ended since its start.
        active_hours: Such as `22:00-06:00 Europe/Berlin`; "" is always.
        sleeps_until_s: When its active hours begin, seconds since the epoch; None while it works.
        works_until_s: When they end; None if they never do, or while it sleeps.
        is_draining: It takes nothing more and will end.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    queues: Annotated[tuple[Label, ...], Field(max_length=MAX_QUEUES)] = ()
    family: Name = ""
    model: Label = ""
    revision: Label = ""
    dtype: Name = ""
    version: Name = ""
    lease_s: Number = 0.0
    capacity: Count = 0
    in_flight: Count = 0
    slots: Count = 0
    rows: Number | None = None
    step_s: Number | None = None
    audio_s_per_s: Number | None = None
    bench_audio_s_per_s: Number | None = None
    memory_bytes: Count = 0
    memory_limit_bytes: Count = 0
    resident_bytes: Count = 0
    lost_threads: Count = 0
    recordings: Annotated[tuple[Name, ...], Field(max_length=MAX_RECORDINGS)] = ()
    last_error: LastError | None = None
    started_at_s: Number | None = None
    num_succeeded: Count = 0
    num_failed: Count = 0
    active_hours: Name = ""
    sleeps_until_s: Number | None = None
    works_until_s: Number | None = None
    is_draining: bool = False

    def to_json(self) -> str:
        """Return the document that a heartbeat writes, within `MAX_FACTS_BYTES`.

        Of one that is too large first the recordings go, then queues.
        """
        document = self.model_dump_json(exclude_defaults=True)
        if len(document.encode()) <= MAX_FACTS_BYTES:
            return document
        if self.recordings or self.last_error:
            return self.model_copy(update={"recordings": (), "last_error": None}).to_json()
        return self.model_copy(update={"queues": self.queues[: len(self.queues) // 2]}).to_json()


class _Known(BaseModel):
    name: str
    known_as: str = ""
    state: State = "idle"
    marks: tuple[Mark, ...] = ()
    heartbeat_age_s: float = 0.0
    is_paused: bool = False
    paused_until_s: float | None = None
    lost_at_s: float | None = None


class WorkerRecord(WorkerFacts, _Known):
    """A worker as the server knows it.

    Attributes:
        name: Of this start of it: `mini-3-5f0c2a9b`.
        known_as: The same without the start's own part, `mini-3`: what a pause names.
        state: What it does.
        marks: Why a person should look at it; empty if it is well.
        heartbeat_age_s: Seconds since the heartbeat, by the server's clock.
        paused_until_s: When its pause ends, seconds since the epoch; None if it has no end, or is
            none (`is_paused`).
        lost_at_s: When it was lost, seconds since the epoch; None while it is not.
    """

    @classmethod
    def read(cls, name: str, document: bytes | None, **known: object) -> Self:
        """Return a worker's record; of a damaged document only what the server knows.

        Args:
            name: Its name.
            document: What `WorkerFacts.to_json` wrote; None is too large, b"" was never written.
            **known: What the server knows of it, as fields.
        """
        plain = {"name": as_text(name, MAX_NAME), "known_as": known_as(name)[:MAX_NAME]}
        try:
            # What is too large was not sent: that is no JSON.
            sent = "" if document is None else document or "{}"
            facts = WorkerFacts.model_validate_json(sent)
            stored = {key: getattr(facts, key) for key in facts.model_fields_set}
            return cls.model_validate(stored | known | plain)
        except ValueError:
            marks = (*known.pop("marks", ()), "damaged")  # type: ignore[misc]
            known.pop("queues", None)
            return cls.model_validate({**known, **plain, "marks": marks})

    @property
    def is_alive(self) -> bool:
        """Return whether its heartbeat is younger than its lease."""
        return not {"lost", "no_heartbeat"} & set(self.marks)


# What a start of a worker puts behind its name: `worker.farm.farm_worker`.
_START_LENGTH = 8


def known_as(name: str) -> str:
    """Return a worker's name without its start's own part: a dash and eight hexadecimal digits."""
    begin, dash, start = name.rpartition("-")
    is_start = len(start) == _START_LENGTH and not start.strip("0123456789abcdef")
    return begin if dash and begin and is_start else name


def state_of(record: WorkerRecord) -> State:
    """Return what a worker does."""
    states: tuple[tuple[State, bool], ...] = (
        ("lost", "lost" in record.marks),
        ("draining", record.is_draining),
        ("paused", record.is_paused),
        ("asleep", record.sleeps_until_s is not None),
        ("busy", record.in_flight > 0),
    )
    return next((state for state, holds in states if holds), "idle")
