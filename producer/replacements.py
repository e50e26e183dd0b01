"""Glossaries as they travel with a job: pairs of what the model writes and what is right."""

import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from producer.plain_json import OutOfBounds, Text

# They travel with every job that has them, and are looked for in all of its text.
MAX_REPLACEMENTS = 1000
MAX_PHRASE_CHARS = 200
MAX_TOTAL_CHARS = 16_384

Pairs = tuple[tuple[str, str], ...]


def _as_pairs(value: Any) -> Any:
    return tuple(value.items()) if isinstance(value, Mapping) else value


def _checked(pairs: Pairs) -> Pairs:
    """Return the pairs in one order, with single spaces and composed letters.

    Raises:
        OutOfBounds: too many or too long, one says nothing, or two of them disagree.
    """
    if len(pairs) > MAX_REPLACEMENTS:
        raise OutOfBounds(f"must be at most {MAX_REPLACEMENTS}", len(pairs))
    plain = sorted({(_phrase(wrong), _phrase(right)) for wrong, right in pairs})
    total = sum(len(wrong) + len(right) for wrong, right in plain)
    if total > MAX_TOTAL_CHARS:
        raise OutOfBounds(f"must be at most {MAX_TOTAL_CHARS} characters together", total)
    check_agree(tuple(plain), ignore_case=False)
    return tuple(plain)


def check_agree(pairs: Pairs, *, ignore_case: bool) -> None:
    """Refuse two replacements for one phrase.

    Raises:
        OutOfBounds: there are two.
    """
    known: dict[str, str] = {}
    for wrong, right in pairs:
        key = wrong.casefold() if ignore_case else wrong
        if known.setdefault(key, right) != right:
            raise OutOfBounds("must have one replacement a phrase", wrong)


def _phrase(text: str) -> str:
    plain = unicodedata.normalize("NFC", " ".join(text.split()))
    if not plain or len(plain) > MAX_PHRASE_CHARS:
        limit = f"each phrase must have 1 to {MAX_PHRASE_CHARS} characters beside spaces"
        raise OutOfBounds(limit, plain[:MAX_PHRASE_CHARS])
    return plain


Replacements = Annotated[
    tuple[tuple[Text, Text], ...], BeforeValidator(_as_pairs), AfterValidator(_checked)
]
"""Pairs (wrong, right), or a mapping; equal ones are equal in whatever order they were given."""
