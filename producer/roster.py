"""Every worker that the farm knows: alive, overdue, or lost within a day.

One call of the server, whatever the number of jobs; `lua/workers.lua` and `lua/roster.lua` say what is
kept. What it answers is checked as `producer.worker_records` describes.
"""

import math
from collections.abc import Collection, Iterator
from statistics import median
from typing import Any, NamedTuple

import redis

from producer.connection import server_errors
from producer.rq_data import parse_time
from producer.scripts import Scripts
from producer.settings import Settings
from producer.stored_fields import stored_number, stored_text
from producer.worker_records import MAX_FACTS_BYTES, Mark, WorkerRecord, state_of

# Workers in one look; nobody has as many.
MAX_WORKERS = 2000
# Slow is a worker below this share of its own bench, or of its peers' median.
SLOW_SHARE = 0.5
# Fewer peers of the same model say nothing.
_MIN_PEERS = 3
# A worker with fewer rows at work than this share of its slots is short of recordings, not slow.
_BUSY_SHARE = 0.5


class Roster(NamedTuple):
    """The farm's workers at one moment, by name.

    Attributes:
        now_s: The server's time, seconds since the epoch.
        workers: Of the queues that were asked for, and those that do not say of which they are.
        paused: Names of paused workers, alive or not, without their starts' parts.
    """

    now_s: float
    workers: list[WorkerRecord]
    paused: frozenset[str]

    @property
    def alive(self) -> list[WorkerRecord]:
        """Return the workers with a fresh heartbeat."""
        return [worker for worker in self.workers if worker.is_alive]


def read_roster(connection: redis.Redis, settings: Settings) -> Roster:
    """Return the workers of the farm's queues.

    A worker of which another of the same name was started since it was lost is left out.

    Raises:
        ServerUnreachable: no server answers.
    """
    with server_errors(connection):
        reply = Scripts(connection).run("workers", limit=MAX_WORKERS, max_bytes=MAX_FACTS_BYTES)
    now, rows, paused = reply
    now_s, served = float(now), set(settings.worker.queues)
    records = [_record(row, now_s, settings.worker.lease_s) for row in rows]
    ours = [each for each in records if each is not None and _serves(each, served)]
    alive = {each.known_as for each in ours if each.is_alive}
    known = [each for each in ours if each.is_alive or each.known_as not in alive]
    names = frozenset(stored_text(name) for name in paused)
    return Roster(now_s, sorted(_with_slow(known), key=lambda each: each.name), names)


def tell_of_lost(connection: redis.Redis, names: Collection[str] | None = None) -> list[str]:
    """Write an event for each worker whose lease has run out; return those not told of before.

    After an outage of the server every lease has run out until the heartbeats come: call it for
    names that were overdue some heartbeats ago as well.

    Raises:
        ServerUnreachable: no server answers.
    """
    asked = None if names is None else sorted(names)
    if asked == []:
        return []
    with server_errors(connection):
        told = Scripts(connection).run("lost", names=asked)
    return [stored_text(name) for name in told]


def _record(row: list[Any], now_s: float, lease_s: float) -> WorkerRecord | None:
    """Read one worker of the answer; None of RQ's own if it has no heartbeat, or has ended."""
    stored_name, ends, lost_at, till, document, *of_rq = row
    name = stored_text(stored_name)
    known: dict[str, Any] = {"is_paused": bool(till), "paused_until_s": _moment(till)}
    if lost_at:
        known |= {"lost_at_s": stored_number(lost_at), "marks": ("lost",)}
        record = WorkerRecord.read(name, document, **known)
        return _seen(record, now_s - stored_number(lost_at) + record.lease_s)
    if ends:
        record = WorkerRecord.read(name, document, **known)
        late_s = now_s - stored_number(ends)
        return _seen(record, max(0.0, late_s + (record.lease_s or lease_s)), is_late=late_s > 0)
    queues, state, beat, death = map(stored_text, of_rq)
    try:
        age_s = now_s - parse_time(beat)
    except ValueError:
        return None
    if death:
        return None
    known |= {"queues": tuple(queues.split(",")), "in_flight": int(state == "busy")}
    return _seen(WorkerRecord.read(name, document, **known), age_s, is_late=age_s >= lease_s)


def _moment(till: bytes) -> float | None:
    moment = stored_number(till)
    return moment if moment and math.isfinite(moment) else None


def _seen(record: WorkerRecord, age_s: float, *, is_late: bool = False) -> WorkerRecord:
    """Return the record with the age of its heartbeat, its state and its marks."""
    marks: list[Mark] = [*record.marks]
    if is_late:
        marks.append("no_heartbeat")
    if record.lost_threads:
        marks.append("reading_hangs")
    found = {"heartbeat_age_s": round(age_s, 3), "marks": tuple(marks), "state": state_of(record)}
    return record.model_copy(update=found)


def _serves(record: WorkerRecord, served: set[str]) -> bool:
    """Return whether a worker does jobs of these queues; a damaged record does not say."""
    bases = {queue.partition("@")[0] for queue in record.queues}
    return bool(bases & served) or not record.queues


def _with_slow(records: list[WorkerRecord]) -> Iterator[WorkerRecord]:
    """Yield the records, marked where a worker is far below its bench or its peers."""
    speeds: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if _is_full(record):
            speeds.setdefault(_kind(record), []).append(record.audio_s_per_s or 0.0)
    for record in records:
        peers = speeds.get(_kind(record), [])
        expected = record.bench_audio_s_per_s or (
            median(peers) if len(peers) >= _MIN_PEERS else 0.0
        )
        is_slow = _is_full(record) and (record.audio_s_per_s or 0.0) < SLOW_SHARE * expected
        yield (record.model_copy(update={"marks": (*record.marks, "slow")}) if is_slow else record)


def _kind(record: WorkerRecord) -> tuple[str, str]:
    return record.model, record.revision


def _is_full(record: WorkerRecord) -> bool:
    """Return whether a worker has enough to do that its speed says something."""
    is_measured = record.is_alive and record.audio_s_per_s is not None
    return is_measured and (record.rows or 0.0) >= _BUSY_SHARE * max(1, record.slots)
