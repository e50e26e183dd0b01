"""The events stream: one entry a job that has ended, written in the same transaction as its result.

An event as JSON:

    {"schema": 1, "id": "1763867000000-0", "at": "2025-11-23T03:03:20.000Z", "kind": "job_ended",
     "job_id": "...", "status": "succeeded" | "failed", "code": "" | an error code,
     "worker": "...", "batch": "...", "trace_id": "..."}

Beside the ends stand events of other kinds, what happens to the farm: their status is "". Readers get
them only if they ask, so that who waits for ends sees nothing else. Each is written in the step that
makes it true, so it comes once, however many workers and monitors notice.

`id` rises, so a reader that stores the last one can go on after it. The stream keeps about the
last hundred thousand events; results and batches know about the jobs before that.
"""

import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

import redis
from pydantic import BaseModel, ConfigDict, Field, model_validator

from producer.connection import server_errors
from producer.errors import Unreadable
from producer.keys import EVENTS_KEY
from producer.plain_json import as_text

# The stream is how waiting clients learn of results. It has no TTL, so its length is bounded:
# about a night's jobs, some 30 MB. Who reads later looks at the result keys.
MAX_EVENTS = 100_000
# A blocking read must return before the socket's own timeout fires.
MAX_BLOCK_S = 2.0

_PAGE = 500
# Of an odd entry, in a message.
_MAX_QUOTED = 200

Entries = list[tuple[bytes, dict[bytes, bytes]]]


Kind = Literal[
    "job_ended",
    # A worker was lost (`worker`, code `worker_lost`) and another one has its job now.
    "job_taken_over",
    # Nothing of `batch` is left to do: `num_succeeded`, `num_failed`.
    "batch_done",
    "worker_started",
    # Its lease ran out without a word from it, or its engine broke (`code`); it was heard again.
    "worker_lost",
    "worker_back",
    # It was asked to end, and ended in order.
    "worker_draining",
    "worker_ended",
    # `worker` is the name without its start's own part; `until` if the pause has an end.
    "worker_paused",
    "worker_resumed",
    "farm_paused",
    "farm_resumed",
    # Active hours: `until` they open or close again.
    "hours_closed",
    "hours_opened",
]
ENDS: frozenset[Kind] = frozenset({"job_ended"})
ALL_KINDS: frozenset[Kind] = frozenset(get_args(Kind))


class Event(BaseModel):
    """What became of one job, or happened to the farm; who wants the text reads the job's result."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(1, alias="schema")
    id: str = Field(description="Rises from event to event.")
    at: str = Field(description="UTC time of the end, by the server's clock.")
    kind: Kind = "job_ended"
    job_id: str = Field("", description='"" unless it is about a job.')
    status: Literal["succeeded", "failed", ""] = Field(
        "", description='"" unless the job has ended.'
    )
    code: str = Field("", description="Error code of a failed job.")
    worker: str = ""
    batch: str = Field("", description="Batch that first asked for the job, or that is done.")
    num_succeeded: int | None = Field(None, description="Files of a batch that is done.")
    num_failed: int | None = None
    until: str | None = Field(None, description="UTC time until which it holds, if that is known.")
    trace_id: str | None = Field(None, description="Trace of the job: see producer.traces.")

    @classmethod
    def from_entry(cls, entry_id: bytes, fields: dict[bytes, bytes]) -> Self:
        """Read a stream entry; fields that later versions add are left out.

        Raises:
            Unreadable: another program's entry, or one of a later version's kind.
        """
        try:
            return cls._read(entry_id, fields)
        except (ValueError, OverflowError, OSError) as error:
            found = as_text(str(fields), _MAX_QUOTED)
            raise Unreadable(f"event {entry_id.decode()}", "must be one", found) from error

    @model_validator(mode="after")
    def _status_tells_of_an_end(self) -> Self:
        if (self.kind == "job_ended") != bool(self.status):
            msg = "only a job that has ended has a status"
            raise ValueError(msg)
        if self.kind.startswith("job_") != bool(self.job_id):
            msg = "an event about a job names it"
            raise ValueError(msg)
        return self

    @classmethod
    def _read(cls, entry_id: bytes, fields: dict[bytes, bytes]) -> Self:
        milliseconds = int(entry_id.partition(b"-")[0])
        ended = datetime.fromtimestamp(milliseconds / 1000, UTC)
        stored: dict[str, Any] = {key.decode(): value.decode() for key, value in fields.items()}
        known = {key: value for key, value in stored.items() if value and key in cls.model_fields}
        at = ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(**{**known, "id": entry_id.decode(), "at": at})

    def to_json(self) -> str:
        """Return the event as one line of JSON, without the fields of other kinds."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def last_event_id(connection: redis.Redis) -> str:
    """Return the id of the newest event, after which only news come."""
    with server_errors(connection):
        newest: Any = connection.xrevrange(EVENTS_KEY, count=1)
    return newest[0][0].decode() if newest else "0-0"


def read_events(
    connection: redis.Redis,
    after: str = "0-0",
    *,
    follow: bool = False,
    timeout_s: float | None = None,
    kinds: Collection[Kind] = ENDS,
    on_odd: Callable[[Unreadable], None] | None = None,
) -> Iterator[Event]:
    """Yield the events after an id, and with `follow` those to come, until the time is out.

    An entry that is no event is skipped; `on_odd` hears of it.

    Raises:
        ServerUnreachable: the server went away.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        entries = read_entries(connection, after, _PAGE, MAX_BLOCK_S if follow else None)
        for entry_id, fields in entries:
            after = entry_id.decode()
            try:
                event = Event.from_entry(entry_id, fields)
            except Unreadable as error:
                if on_odd is not None:
                    on_odd(error)
                continue
            if event.kind in kinds:
                yield event
        if not entries and (not follow or (deadline and time.monotonic() > deadline)):
            return


def read_entries(
    connection: redis.Redis, after: str, limit: int, block_s: float | None = None
) -> Entries:
    """Return the stream's next entries as they are: (id, fields), at most `limit`.

    With `block_s` waits for the first one, at most `MAX_BLOCK_S`; without it none may be there.

    Raises:
        ServerUnreachable: the server went away.
    """
    # 0 would block for ever.
    block_ms = None if block_s is None else max(1, int(min(block_s, MAX_BLOCK_S) * 1000))
    with server_errors(connection):
        answer: Any = connection.xread({EVENTS_KEY: after}, count=limit, block=block_ms)
    return answer[0][1] if answer else []
