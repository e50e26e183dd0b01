"""What of a damaged recording could not be read, as the result tells it."""

from dataclasses import dataclass, field

from producer.result import Lost

# In `Transcript.flags`: parts of the recording are missing.
SALVAGED = "salvaged"
# Entries of one result; what is lost beyond is counted in the last one.
MAX_LOST = 100
_MAX_REASON_CHARS = 200


@dataclass
class Losses:
    """The lost parts of one recording, in order.

    Attributes:
        found: At most `MAX_LOST`; losses at the same moment are one.
        missing_s: Seconds that are known to be missing.
    """

    found: list[Lost] = field(default_factory=list)
    missing_s: float = 0.0

    def add(
        self, start_s: float, duration_s: float | None, reason: str, *, is_kept: bool = False
    ) -> None:
        """Note a loss.

        Args:
            start_s: Where it is, in seconds of what was read; nothing stands in for what is missing.
            duration_s: How long it was; None if nobody knows.
            reason: The decoder's words.
            is_kept: Samples stand in for it, wrong ones.
        """
        if not is_kept:
            self.missing_s += duration_s or 0.0
        last = self.found[-1] if self.found else None
        if last is not None and (last.start_s == start_s or len(self.found) == MAX_LOST):
            known = last.duration_s is not None and duration_s is not None
            total_s = (last.duration_s or 0.0) + (duration_s or 0.0) if known else None
            self.found[-1] = last.model_copy(update={"duration_s": total_s})
            return
        self.found.append(
            Lost(start_s=start_s, duration_s=duration_s, reason=reason[:_MAX_REASON_CHARS])
        )
