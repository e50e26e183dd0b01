"""Times as text, and the line of a segment that people read."""

from producer.errors import OutOfRange
from producer.formats.voices import voice_of
from producer.result import Segment


def format_timestamp(seconds: float, *, hours: bool = False, decimal_marker: str = ".") -> str:
    """Return `MM:SS.mmm`, or `HH:MM:SS.mmm` from one hour on or with `hours`.

    Raises:
        OutOfRange: the time is negative or not finite.
    """
    minutes, milliseconds = divmod(to_ms(seconds), 60_000)
    num_hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    prefix = f"{num_hours:02d}:" if hours or num_hours else ""
    return f"{prefix}{minutes:02d}:{whole:02d}{decimal_marker}{milliseconds:03d}"


def to_ms(seconds: float) -> int:
    """Return whole milliseconds.

    Raises:
        OutOfRange: the time is negative or not finite.
    """
    if not 0 <= seconds < float("inf"):
        raise OutOfRange("timestamp", "a time is a finite number of seconds from 0 on", seconds)
    return round(seconds * 1000.0)


def timed_line(segment: Segment) -> str:
    """Return a segment as one line with its times and its channel or track, newline included."""
    start, end = format_timestamp(segment.start), format_timestamp(segment.end)
    voice = voice_of(segment)
    return f"[{start} --> {end}] {voice}{': ' if voice else ''}{segment.text.strip()}\n"
