"""How a person listens to a passage: a command for a shell, and a link for a browser."""

import math
import shlex
from urllib.parse import quote

from producer.errors import OutOfRange
from producer.formats import format_timestamp

# Before a passage, so that its first word is heard.
_LEAD_IN_S = 1.0


def passage_time(seconds: float) -> str:
    """Return a time in a recording; of a damaged result it may be none."""
    try:
        return format_timestamp(seconds)
    except OutOfRange:
        return "unknown"


def play_command(source: str, start_s: float) -> str:
    """Return the command that plays a recording from shortly before a passage; "" without a path."""
    if not source:
        return ""
    begin_s = max(0.0, start_s - _LEAD_IN_S) if math.isfinite(start_s) else 0.0
    # Else a relative name could look like an option or an address.
    path = source if source.startswith("/") or "://" in source else f"file:{source}"
    return f"ffplay -ss {begin_s:.1f} {shell_word(path)}"


def play_link(source: str, start_s: float) -> str | None:
    """Return a link that a browser plays from the passage on; None for what is no local path."""
    if not source.startswith("/"):
        return None
    begin_s = start_s if math.isfinite(start_s) else 0.0
    path = quote(source.encode("utf-8", "surrogateescape"))
    return f"file://{path}#t={max(0.0, begin_s):.1f}"


def shell_word(text: str) -> str:
    """Return text as one word of a POSIX shell; what a person could not see is written as bytes."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        f"\\{char}" if char in "\\'" else char if char.isprintable() else _bytes_of(char)
        for char in text
    )
    return f"$'{escaped}'"


def _bytes_of(char: str) -> str:
    # Octal: three digits at most, so that no character behind them joins in.
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))
