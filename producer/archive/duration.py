"""How long a recording says it is, read from its header alone."""

import os
from pathlib import Path

# Raw AAC frames have no header that tells a duration, and tinytag takes them for MP3.
_NO_HEADER = {".aac", ".raw", ".pcm"}


def header_duration_s(path: Path) -> float | None:
    """Return the duration in seconds that the header claims; None if it does not say.

    Reads a few kilobytes and decodes nothing, so it is for estimates: the worker trusts only
    what it decodes.
    """
    from tinytag import TinyTag, TinyTagException  # noqa: PLC0415 - only a dry run asks

    if path.suffix.lower() in _NO_HEADER:
        return None
    try:
        duration_s = TinyTag.get(os.fsencode(path), tags=False).duration
    except (TinyTagException, OSError, ValueError, ArithmeticError, LookupError):
        return None
    return duration_s if duration_s is not None and 0 <= duration_s < float("inf") else None
