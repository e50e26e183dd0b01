"""Subtitles laid out within limits of length and time; `producer.formats.options` has the limits.

- Words with times keep them; a segment without shares its time among its words by their
  characters. Nothing stands before it is said.
- No line is wider, no subtitle has more lines than allowed. A word wider than a line is cut. Width
  counts characters without combining marks.
- Subtitles never overlap. Each stands as long as its words are spoken, longer if `min_duration_s` or
  `max_cps` ask for it and the next one leaves room, and never longer than `max_duration_s`.
- Speech may leave too little room. Of all divisions into subtitles the one is chosen in which the
  fewest miss time: where a division keeps all limits, ours does. Among equals, breaks fall between
  segments, after punctuation or at pauses, there are few of them, and little time is missing.
- With both a width and a line count subtitles may flow over segment borders, as in openai-whisper.
- Lines of a subtitle are about equally long, the lower one longer, and break after punctuation.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from producer.formats.options import FormatOptions
from producer.formats.pieces import Piece, timed_pieces
from producer.formats.whisper_subtitles import LONG_PAUSE_S
from producer.result import Segment, Word

# A subtitle without any limit of length still ends: more than a window of Whisper's can say.
_MOST_PIECES = 300
# Where a number is not limited.
_NO_LIMIT = 10**9

# What a subtitle costs beside the break at its end; see `producer.formats.pieces`.
_A_SUBTITLE, _A_LINE, _A_BORDER = 100, 20, 150
# Missing milliseconds that cost as much as one of those.
_MISSING_MS = 4


class _Limits(NamedTuple):
    """Limits of `FormatOptions` in characters, lines, pieces and milliseconds.

    Attributes:
        flows: Whether a subtitle may hold text of two segments.
    """

    width: int
    lines: int
    pieces: int
    flows: bool
    shortest: int
    longest: int
    gap: int
    ms_per_char: float

    @classmethod
    def of(cls, options: FormatOptions) -> "_Limits":
        flows = options.max_line_width is not None and options.max_line_count is not None
        longest = options.max_duration_s
        return cls(
            width=options.max_line_width or _NO_LIMIT,
            lines=options.max_line_count or _NO_LIMIT,
            pieces=_MOST_PIECES if flows else options.max_words_per_line or _MOST_PIECES,
            flows=flows,
            shortest=math.ceil((options.min_duration_s or 0) * 1000),
            longest=_NO_LIMIT if longest is None else int(longest * 1000),
            gap=math.ceil((options.min_gap_s or 0) * 1000),
            ms_per_char=0 if options.max_cps is None else 1000 / options.max_cps,
        )

    def time(self, start: int, said: int, num_chars: int, following: int | None) -> tuple[int, int]:
        """Return when a subtitle ends, and how much time it and the gap behind it miss.

        Args:
            start: When it begins, in milliseconds.
            said: When its last word ends.
            num_chars: Its characters, spaces included.
            following: When the next one begins.
        """
        wanted = max(self.shortest, math.ceil(num_chars * self.ms_per_char))
        end = min(max(said, start + wanted), start + self.longest)
        missing = 0
        if following is not None and end + self.gap > following:
            end = following - self.gap
            if end <= start:
                # It stands a millisecond at least: pieces start one after the other.
                end = start + 1
                missing = self.gap - (following - end)
        end = max(end, start + 1)
        return end, missing + max(0, wanted - (end - start))


def laid_out(
    segments: Sequence[Segment], options: FormatOptions
) -> Iterator[tuple[float, float, list[Word]]]:
    """Yield start and end in seconds of each subtitle, and its words with spaces and line breaks.

    Raises:
        OutOfRange: a time is negative or not finite.
    """
    pieces = timed_pieces(segments, options.max_line_width)
    limits = _Limits.of(options)
    for first, last, end in _divided(pieces, limits):
        shown = [
            piece._replace(start=min(piece.start, end), end=min(piece.end, end))
            for piece in pieces[first:last]
        ]
        yield pieces[first].start / 1000, end / 1000, _lines(shown, limits)


def _divided(pieces: list[Piece], limits: _Limits) -> Iterator[tuple[int, int, int]]:
    """Yield the pieces of each subtitle, first and behind the last, and when it ends.

    It is the cheapest of all divisions, found from the last piece on: fewest subtitles that miss
    time, then what `_subtitles_from` says.
    """
    best: list[tuple[int, int]] = [(0, 0)] * (len(pieces) + 1)
    chosen = [(0, 0)] * len(pieces)
    for first in range(len(pieces) - 1, -1, -1):
        cheapest = (_NO_LIMIT, _NO_LIMIT)
        for last, end, missing, style in _subtitles_from(first, pieces, limits):
            num_short, cost = best[last]
            cost += style + missing // _MISSING_MS
            total = (num_short + (missing > 0), cost)
            if total < cheapest:
                cheapest, chosen[first] = total, (last, end)
        best[first] = cheapest
    first = 0
    while first < len(pieces):
        last, end = chosen[first]
        yield first, last, end
        first = last


def _subtitles_from(
    first: int, pieces: list[Piece], limits: _Limits
) -> Iterator[tuple[int, int, int, int]]:
    """Yield each subtitle from a piece on: behind its last, its end, time it misses, its cost."""
    start = pieces[first].start
    length = num_chars = borders = 0
    num_lines = 1
    for last in range(first + 1, min(len(pieces), first + limits.pieces) + 1):
        piece = pieces[last - 1]
        if last > first + 1:
            if piece.end - start > limits.longest:
                return
            if piece.opens:
                pause = piece.start - pieces[last - 2].start
                if not limits.flows or pause > LONG_PAUSE_S * 1000:
                    return
                borders += 1
            num_chars += piece.space
        num_chars += piece.width
        added = piece.width + (piece.space and length > 0)
        if length + added > limits.width:
            num_lines, length, added = num_lines + 1, 0, piece.width
            if num_lines > limits.lines:
                return
        length += added
        following = pieces[last] if last < len(pieces) else None
        end, missing = limits.time(start, piece.end, num_chars, following and following.start)
        style = _A_SUBTITLE + _A_LINE * (num_lines - 1) + _A_BORDER * borders
        yield last, end, missing, style + (following.break_cost if following else 0)


def _lines(pieces: list[Piece], limits: _Limits) -> list[Word]:
    """Return the pieces as words, of which the first of each line carries the line break."""
    begins = _line_begins(pieces, limits.width)
    words = []
    for index, piece in enumerate(pieces):
        before = "" if index == 0 else "\n" if index in begins else " " * piece.space
        words.append(
            Word(
                word=before + piece.text,
                start=piece.start / 1000,
                end=piece.end / 1000,
                probability=piece.probability,
            )
        )
    return words


def _line_begins(pieces: list[Piece], max_width: int) -> set[int]:
    """Return where lines begin: as few lines as can be, then of equal length, then well broken."""
    # For each piece: lines from there on, how uneven they are, and where the first one ends.
    best = [(0, 0, 0)] * (len(pieces) + 1)
    for first in range(len(pieces) - 1, -1, -1):
        options = []
        length = 0
        for last in range(first + 1, len(pieces) + 1):
            piece = pieces[last - 1]
            length += piece.width + (piece.space and length > 0)
            if length > max_width:
                break
            num_lines, uneven, _ = best[last]
            break_cost = pieces[last].break_cost if last < len(pieces) else 0
            options.append((num_lines + 1, uneven + length * length + break_cost, last))
        best[first] = min(options)
    begins, first = set(), 0
    while first < len(pieces):
        begins.add(first)
        first = best[first][2]
    return begins
