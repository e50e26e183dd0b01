"""Active hours: pure functions that say when a farm may work.

A window like `22:00-06:00` is read on the wall clock of a time zone, opens every day and may run
over midnight. Daylight saving: a wall time that is shown twice counts when it is first shown, one
that is skipped counts at the jump, so a window is always one stretch of time.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from producer.errors import InvalidSettings

_SPEC = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")

# From yesterday's window, which may still be open, to one after a window that a jump swallowed.
_DAYS_AROUND = range(-1, 4)


class ActiveHours(NamedTuple):
    """Wall times at which the window opens and closes; it closes next day if not later."""

    opens: time
    closes: time


def parse_hours(spec: str) -> ActiveHours:
    """Read `HH:MM-HH:MM`; `24:00` closes at midnight.

    Raises:
        InvalidSettings: another form, or a window of no length.
    """
    match = _SPEC.fullmatch(spec.strip())
    if not match:
        raise _invalid("must look like 22:00-06:00", spec)
    opens, closes = (int(match[1]), int(match[2])), (int(match[3]), int(match[4]))
    if closes == (24, 0):
        closes = (0, 0)
    if any(hour > 23 or minute > 59 for hour, minute in (opens, closes)):  # noqa: PLR2004 a clock
        raise _invalid("hours are 00 to 23, minutes 00 to 59", spec)
    if opens == closes:
        raise _invalid("must open and close at different times; leave it out for always", spec)
    return ActiveHours(time(*opens), time(*closes))


def is_active(spec: str | None, timezone: str | None, now: datetime) -> bool:
    """Return whether work may be claimed at `now`, an aware time; without a spec it always may.

    Raises:
        InvalidSettings: the spec or the time zone is not understood.
    """
    if spec is None:
        return True
    return any(opens <= now.timestamp() < closes for opens, closes in _windows(spec, timezone, now))


def next_change(spec: str | None, timezone: str | None, now: datetime) -> datetime | None:
    """Return when `is_active` next turns over, in UTC; None if it never does.

    Raises:
        InvalidSettings: the spec or the time zone is not understood.
    """
    if spec is None:
        return None
    edges = (edge for window in _windows(spec, timezone, now) for edge in window)
    later = min(edge for edge in edges if edge > now.timestamp())
    return datetime.fromtimestamp(later, UTC)


def _windows(spec: str, timezone: str | None, now: datetime) -> Iterator[tuple[float, float]]:
    """Yield (opens, closes) as POSIX times for the days around `now`."""
    hours, zone = parse_hours(spec), zone_of(timezone)
    today = _wall(now.timestamp(), zone).date()
    overnight = timedelta(days=1 if hours.closes <= hours.opens else 0)
    for days in _DAYS_AROUND:
        day = today + timedelta(days=days)
        opens = _instant(datetime.combine(day, hours.opens), zone)
        closes = _instant(datetime.combine(day + overnight, hours.closes), zone)
        if opens < closes:
            yield opens, closes


def zone_of(timezone: str | None) -> ZoneInfo | None:
    """Return a time zone by its IANA name; None is the machine's.

    Raises:
        InvalidSettings: there is no such zone.
    """
    if timezone is None:
        return None
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidSettings(
            "worker.timezone", "must be an IANA name such as Europe/Berlin", timezone
        ) from error


def _wall(timestamp: float, zone: ZoneInfo | None) -> datetime:
    """Return what the clock on the wall shows, without its zone; None is the machine's zone."""
    return datetime.fromtimestamp(timestamp, zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo | None) -> float:
    """Return when the wall clock first shows `wall` or jumps over it."""
    first = wall.replace(tzinfo=zone, fold=0).timestamp()
    if _wall(first, zone) == wall:
        return first
    # Skipped: with fold=1 the offset after the jump applies, which lands before it (PEP 495).
    before = wall.replace(tzinfo=zone, fold=1).timestamp()
    seconds = range(int(before), int(first) + 1)
    return seconds[bisect_left(seconds, wall, key=lambda second: _wall(second, zone))]


def _invalid(constraint: str, spec: str) -> InvalidSettings:
    return InvalidSettings("worker.active_hours", constraint, spec)
