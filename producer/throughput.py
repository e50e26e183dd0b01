"""What the farm did over the last hours, five minutes by five minutes.

The scripts count it as work is reported (`producer/lua/counts.lua`); a look reads two or three small
hashes, however many jobs there are.
"""

from typing import NamedTuple, cast

import redis

from producer.connection import server_errors, server_time_s
from producer.keys import work_key
from producer.stored_fields import stored_number, stored_text

SLOT_S = 300
_DAY_S = 86_400


class Slot(NamedTuple):
    """Five minutes of the farm: when they began, seconds since the epoch, and what was done."""

    start_s: float
    audio_s: float = 0.0
    succeeded: int = 0
    failed: int = 0


def read_throughput(connection: redis.Redis, hours: int = 24) -> list[Slot]:
    """Return the slots of the last hours, the oldest first; the last one is not over yet.

    Raises:
        ServerUnreachable: the server went away.
    """
    now_s = server_time_s(connection)
    last = int(now_s // SLOT_S)
    first = last - hours * 3600 // SLOT_S + 1
    slots_a_day = _DAY_S // SLOT_S
    days = range(first // slots_a_day, last // slots_a_day + 1)
    with server_errors(connection):
        pipeline = connection.pipeline(transaction=False)
        for day in days:
            pipeline.hgetall(work_key(day))
        hashes = cast("list[dict[bytes, bytes]]", pipeline.execute())
    found = {
        (day, stored_text(field)): max(0.0, stored_number(value))
        for day, fields in zip(days, hashes, strict=True)
        for field, value in fields.items()
    }
    return [_slot(found, number, slots_a_day) for number in range(first, last + 1)]


def speed(slots: list[Slot], now_s: float, window_s: float = 900.0) -> float | None:
    """Return the seconds of audio done in a second of the last minutes; None if nothing was."""
    recent = [slot for slot in slots if slot.start_s + SLOT_S > now_s - window_s]
    done_s = sum(slot.audio_s for slot in recent)
    if not recent or not done_s:
        return None
    return done_s / max(1.0, now_s - recent[0].start_s)


def _slot(found: dict[tuple[int, str], float], number: int, slots_a_day: int) -> Slot:
    day, slot = divmod(number, slots_a_day)

    def sum_of(what: str) -> float:
        return found.get((day, f"{slot}:{what}"), 0.0)

    return Slot(
        number * SLOT_S, sum_of("audio_ms") / 1000, int(sum_of("succeeded")), int(sum_of("failed"))
    )
