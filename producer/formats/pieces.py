"""What subtitles are made of: pieces of text that stay in one line, with times."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from producer.formats.timestamps import to_ms
from producer.result import Segment, Word
from producer.unspaced import UNSPACED

# What stays in one line: a word with its punctuation, or one character of an unspaced script.
_PIECE = re.compile(rf"(\s*)([{UNSPACED}][^\w\s]*|[^\s{UNSPACED}]+)")

# Full-width, Arabic and Indic ones included.
_SENTENCE_ENDS = tuple(".!?\u2026\u3002\uff01\uff1f\uff61\u061f\u0964")
_CLAUSE_ENDS = tuple(",;:\u2014\u2013\u3001\uff0c\uff1b\uff1a\u060c")
_CLOSING = "\"'\u201d\u2019\u00bb)]"
# What a break costs by what it follows; only compared with each other.
_AFTER_SENTENCE, _AFTER_CLAUSE, _AFTER_WORD, _WITHIN_WORD = 10, 40, 80, 200
# Milliseconds of silence that count as much as a comma.
_SHORT_PAUSE_MS = 300


class Piece(NamedTuple):
    """Text that stays in one line, with times in milliseconds; each starts after the one before.

    Attributes:
        space: Whether a space comes before it.
        width: Its characters without combining marks.
        opens: Whether it opens a segment.
        break_cost: Of a break before it.
    """

    text: str
    space: bool
    width: int
    start: int
    end: int
    probability: float
    opens: bool
    break_cost: int = 0


def timed_pieces(segments: Sequence[Segment], max_width: int | None) -> list[Piece]:
    """Return the pieces of all segments in order; a word wider than `max_width` is cut.

    Raises:
        OutOfRange: a time is negative or not finite.
    """
    pieces: list[Piece] = []
    for segment in segments:
        opens, space = True, False
        words = segment.words or [
            Word(word=segment.text, start=segment.start, end=segment.end, probability=0.0)
        ]
        for word in words:
            for piece in _shared(word, max_width):
                start = max(piece.start, pieces[-1].start + 1) if pieces else piece.start
                placed = piece._replace(
                    start=start,
                    end=max(piece.end, start),
                    space=piece.space or space or opens,
                    opens=opens,
                )
                if pieces:
                    placed = placed._replace(break_cost=_break_cost(pieces[-1], placed))
                    pieces[-1] = pieces[-1]._replace(end=min(pieces[-1].end, start))
                pieces.append(placed)
                opens = space = False
            space = space or word.word[-1:].isspace()
    return pieces


def _shared(word: Word, max_width: int | None) -> Iterator[Piece]:
    """Cut a word, or a whole segment, and share its time by characters."""
    found = [
        (text, bool(space) and number == 0)
        for space, whole in _PIECE.findall(word.word)
        for number, text in enumerate(_cut(whole, max_width))
    ]
    total = max(1, sum(len(text) for text, _ in found))
    start, duration = to_ms(word.start), max(0, to_ms(word.end) - to_ms(word.start))
    said = 0
    for text, space in found:
        begin = start + duration * said // total
        said += len(text)
        end = start + duration * said // total
        yield Piece(text, space, _width(text), begin, end, word.probability, opens=False)


def _cut(text: str, max_width: int | None) -> Iterator[str]:
    """Cut a word that is wider than a line; a combining mark stays with its letter."""
    if max_width is None or len(text) <= max_width:
        yield text
        return
    part, width = "", 0
    for char in text:
        if width == max_width and not _is_mark(char):
            yield part
            part, width = "", 0
        part += char
        width += not _is_mark(char)
    yield part


def _width(text: str) -> int:
    # Marks alone count too, so that nothing has no width.
    return len(text) if text.isascii() else max(1, sum(not _is_mark(char) for char in text))


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in {"Mn", "Me", "Cf"}


def _break_cost(before: Piece, after: Piece) -> int:
    if after.opens:
        return 0
    bare = before.text.rstrip(_CLOSING)
    if bare.endswith(_SENTENCE_ENDS):
        return _AFTER_SENTENCE
    if bare.endswith(_CLAUSE_ENDS) or after.start - before.end >= _SHORT_PAUSE_MS:
        return _AFTER_CLAUSE
    return _AFTER_WORD if after.space else _WITHIN_WORD
