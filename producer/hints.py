"""What a misspelt word was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


def hint(word: str, known: Iterable[str]) -> str:
    """Return what to put behind a refusal: the known word that is nearest; "" if none is near."""
    close = get_close_matches(word, [*known], n=1)
    return f"; did you mean {close[0]}?" if close else ""
