"""The farm's Lua scripts: every step that must not be cut in two by a death or a lost reply.

RQ does these steps in several commands, and loses or repeats jobs between them
(tests/farm/test_hazards.py shows each case). The scripts work on RQ's own keys.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import redis
import structlog

from producer.keys import model_queue
from producer.result import Model
from producer.rq_data import MAX_FIELD_BYTES
from producer.scripts import Scripts
from producer.settings import ModelSettings, Settings
from producer.traces import TRACEPARENT_FIELD, TraceParent
from worker.farm.boot import boot_id

# Fields of an RQ job hash, and of ours in it, that decide how a job is run.
FIELDS = (
    "data",
    "created_at",
    "enqueued_at",
    "timeout",
    "result_ttl",
    "failure_ttl",
    "retries_left",
    "retry_intervals",
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
    "webhooks",
    "repeats_left",
    "rate_limit_key",
    "attempts",
    "tries",
    "deaths",
    "excused",
    "lost_worker",
    "cancel",
    "drifted",
    TRACEPARENT_FIELD,
)

# How much later than our lease RQ's own clean-up may look at a job; see leases.lua.
STOCK_MARGIN_S = 3600.0

# Every 8th claim starts at a lower queue; see claim.lua.
RESERVE_EVERY = 8

# Bounds the time one script call keeps the server busy to a few milliseconds.
MAX_JOBS_A_CALL = 64

LUA_FOLDER = Path(__file__).parent / "lua"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Claim:
    """One job as it was handed to us, with the fields of its hash still unchecked.

    Attributes:
        execution_id: The fence: what we write counts only while the job hash holds it.
        claimed_at_s: Server time, seconds since the epoch.
        oversized: Name of a field that was too large to be sent, or "".
        fields: Job hash by name; absent ones are empty.
    """

    job_id: str
    execution_id: str
    queue: str
    claimed_at_s: float
    oversized: str
    fields: dict[str, bytes]

    @cached_property
    def traceparent(self) -> TraceParent | None:
        """Return the trace that the job belongs to, and the span that asked for it."""
        return TraceParent.read(self.fields[TRACEPARENT_FIELD].decode(errors="replace"))

    @property
    def trace_id(self) -> str:
        """Return the trace that the job belongs to; "" without one."""
        return self.traceparent.trace_id if self.traceparent else ""

    @classmethod
    def from_reply(cls, reply: list[Any]) -> "Claim":
        """Read one job of a script's answer."""
        job_id, execution_id, queue, now, (oversized, *values) = reply
        return cls(
            job_id.decode(),
            execution_id.decode(),
            # Of an adopted job it is what its hash says.
            queue.decode(errors="replace"),
            float(now),
            oversized.decode(),
            dict(zip(FIELDS, values, strict=True)),
        )


class Heartbeat(NamedTuple):
    """What the server said to a heartbeat.

    Attributes:
        lost: Executions that are no longer ours.
        cancelled: Executions that somebody asked to stop.
        adopted: Jobs that are ours although the reply to their claim never came.
        is_paused: Whether the farm or this worker is.
    """

    lost: list[str]
    cancelled: list[str]
    adopted: list[Claim]
    is_paused: bool = False


class Release(NamedTuple):
    """How to give one job back.

    Attributes:
        delay_s: Wait in the registry of scheduled jobs; 0 queues at once.
        record: JSON of the error that spends a try; "" spends none.
        died: The recording is suspected to have broken the worker.
        checkpoint: JSON to resume from; "" keeps what is stored.
        to_queue: Its model's queue, if it came from another; "" gives it back where it was.
        drifted: It goes to another model than it names, which starts it over.
    """

    job_id: str
    execution_id: str
    queue: str
    delay_s: float = 0.0
    at_front: bool = True
    record: str = ""
    died: bool = False
    checkpoint: str = ""
    to_queue: str = ""
    drifted: bool = False


def served_models(model: Model, settings: ModelSettings) -> list[tuple[str, str | None]]:
    """Return the names and revisions by which jobs ask for a worker's model.

    None is any revision. Beside the commit that was loaded counts what the settings call it, which
    may be a branch.
    """
    revisions = dict.fromkeys((None, model.revision, settings.revision))
    return [(model.name, revision) for revision in revisions]


def queue_levels(
    queues: Iterable[str], models: Iterable[tuple[str, str | None]]
) -> list[list[str]]:
    """Return the queues of a worker by priority: for any model, and for what it has."""
    named = list(models)
    return [[queue, *(model_queue(queue, *each) for each in named)] for queue in queues]


class FarmScripts:
    """The scripts, bound to one connection, one worker name and its settings."""

    def __init__(
        self,
        connection: redis.Redis,
        settings: Settings,
        worker: str,
        models: Iterable[tuple[str, str | None]],
        boot: str | None = None,
    ) -> None:
        """Take what the scripts need.

        Args:
            connection: To the server.
            settings: Queues, leases, lifetimes.
            worker: The worker's name.
            models: What this worker is, as jobs name it; see `served_models`.
            boot: Which start of the machine this is; None asks the system.
        """
        self._levels = queue_levels(settings.worker.queues, models)
        self._common = {
            "worker": worker,
            "boot": boot or boot_id(),
            "farm": list(settings.worker.queues),
            "lease_s": settings.worker.lease_s,
            "margin_s": STOCK_MARGIN_S,
            "fields": FIELDS,
            "max_field_bytes": MAX_FIELD_BYTES,
            "ttl_s": settings.queue.job_ttl_s,
        }
        self._scripts = Scripts(connection, LUA_FOLDER, shared="leases")
        self._turn = 0

    def claim(self, limit: int, *, suspects: int) -> list[Claim]:
        """Take up to `limit` queued jobs, of which at most `suspects` have killed a worker."""
        limit = min(limit, MAX_JOBS_A_CALL)
        replies = self._call(
            "claim",
            levels=self._levels,
            limit=limit,
            turn=self._turn,
            reserve=RESERVE_EVERY,
            suspects=suspects,
            execution_ids=_new_ids(limit),
        )
        self._turn += len(replies)
        return _claims(replies)

    def heartbeat(
        self, held: Iterable[Claim], record: dict[str, str], worker_ttl_s: int, facts: str = ""
    ) -> Heartbeat:
        """Renew the leases of `held`, RQ's record of this worker, and its `facts` if it says any."""
        executions = [(claim.job_id, claim.execution_id, claim.queue) for claim in held]
        lost, cancelled, adopted, is_paused = self._call(
            "heartbeat",
            facts,
            executions=executions,
            record=record,
            worker_ttl_s=worker_ttl_s,
            queues=[queue for level in self._levels for queue in level],
        )
        return Heartbeat(
            [execution_id.decode() for execution_id in lost],
            [execution_id.decode() for execution_id in cancelled],
            _claims(adopted),
            bool(is_paused),
        )

    def progress(self, claim: Claim, progress: dict[str, str], checkpoint: str) -> bool:
        """Store how far a job is; False if it is no longer ours. "" keeps the checkpoint."""
        fields = {"job_id": claim.job_id, "execution_id": claim.execution_id}
        return bool(self._call("progress", checkpoint, progress=progress, **fields))

    def reap(self) -> list[Claim]:
        """Tell of workers whose leases ran out, and take over their jobs: `MAX_JOBS_A_CALL` at most."""
        replies = self._call("reap", limit=MAX_JOBS_A_CALL, execution_ids=_new_ids(MAX_JOBS_A_CALL))
        return _claims(replies)

    def sweep(self) -> int:
        """Drop entries of queues' heads whose jobs do not wait any more; return how many."""
        return int(self._call("sweep"))

    def leave(self, *, was_asked: bool, broken_by: str | None = None) -> None:
        """Take this worker out of the roster: it ends in order, or its engine broke by this error."""
        self._call("leave", was_asked=was_asked, broken_by=broken_by)

    def set_aside(self, job: "Claim | Release") -> bool:
        """Take a job that cannot be ended out of the way; False if it is no longer ours."""
        fields = {"job_id": job.job_id, "execution_id": job.execution_id, "queue": job.queue}
        return bool(self._call("set_aside", **fields))

    def release(self, jobs: Sequence[Release]) -> list[str]:
        """Give jobs back to their queues; return the executions that were still ours."""
        released = self._call("release", jobs=[job._asdict() for job in jobs])
        return [execution_id.decode() for execution_id in released]

    def due(self) -> int:
        """Queue the delayed jobs whose time has come; return how many."""
        return int(self._call("due", limit=MAX_JOBS_A_CALL))

    def _call(self, script: str, *values: str, **args: Any) -> Any:
        return self._scripts.run(script, *values, **self._common, **args)


def _claims(replies: list[list[Any]]) -> list[Claim]:
    """Read a script's answer; a job that it set aside instead is logged."""
    claims = []
    for reply in replies:
        if len(reply) == 1:
            _log.error("set_aside", job_id=ascii(reply[0]), reason="an id that RQ does not take")
        else:
            claims.append(Claim.from_reply(reply))
    return claims


def _new_ids(count: int) -> list[str]:
    return [uuid4().hex for _ in range(count)]
