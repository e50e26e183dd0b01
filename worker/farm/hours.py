"""Whether a worker's active hours are open, and until when."""

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from producer.active_hours import is_active, next_change
from producer.settings import WorkerSettings

_log = structlog.get_logger()


@dataclass(frozen=True)
class Hours:
    """The hours at one moment; times are seconds since the epoch.

    Attributes:
        shown: As they are set, with the time zone; "" is always.
        sleeps_until_s: When they open; None while they are open.
        works_until_s: When they close; None if they never do, or are closed.
    """

    shown: str = ""
    sleeps_until_s: float | None = None
    works_until_s: float | None = None

    @classmethod
    def now(cls, settings: WorkerSettings) -> "Hours":
        """Return the hours of a worker's settings, as its clock has it."""
        spec, zone, now = settings.active_hours, settings.timezone, datetime.now(UTC)
        change = next_change(spec, zone, now)
        if spec is None or change is None:
            return cls()
        shown, change_s = f"{spec} {zone or ''}".strip(), float(int(change.timestamp()))
        if is_active(spec, zone, now):
            return cls(shown, works_until_s=change_s)
        return cls(shown, sleeps_until_s=change_s)

    def log_change(self, before: "Hours") -> None:
        """Log when the hours have closed or opened since."""
        if self.sleeps_until_s and not before.sleeps_until_s:
            stamp = datetime.fromtimestamp(self.sleeps_until_s, UTC).isoformat()
            _log.info("asleep", until=stamp, reason="active_hours")
        elif before.sleeps_until_s and not self.sleeps_until_s:
            _log.info("awake")
