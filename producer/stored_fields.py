"""Fields of hashes that any program may have written: read as far as they make sense."""

import math

# Beyond any duration in seconds and any count that we store.
_MAX_NUMBER = 1e12


def stored_text(value: bytes | None) -> str:
    """Return a field as text; bytes that are no UTF-8 are replaced."""
    return (value or b"").decode(errors="replace")


def stored_number(value: bytes | str | None) -> float:
    """Return a field as a number from 0 on; 0 for what is none."""
    try:
        number = float(value or 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) and 0 <= number <= _MAX_NUMBER else 0.0
