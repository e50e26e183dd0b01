"""Where a recording is cut: into pieces of at most 30 s, at pauses, without overlap.

Each piece is transcribed on its own, so nothing has to be merged. Merging what overlaps loses words
(parakeet-mlx#8 and #10, FluidAudio#683, #706 and #825 among others). Positions are samples of the
recording at 16 kHz, so that the same cuts come out on every machine and after every resume.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from worker.engine.speech import Speech

RATE_HZ = 16_000
# moondream's rule for parakeet-ultra: the last pause in 1 to 30 s, and pauses are 0.2 s or longer.
SHORTEST_PIECE = 1 * RATE_HZ
LONGEST_PIECE = 30 * RATE_HZ
SHORTEST_PAUSE = RATE_HZ // 5
# In which nobody can have said a word: a rest of a cut, or a file that is next to empty.
NEXT_TO_NOTHING = RATE_HZ // 10


class Span(NamedTuple):
    """A stretch of speech, in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class Piece:
    """A part of the recording, in samples: `start` is in it, `end` is not."""

    start: int
    end: int

    @property
    def start_s(self) -> float:
        """Seconds from the start of the recording."""
        return self.start / RATE_HZ

    @property
    def end_s(self) -> float:
        """Seconds from the start of the recording."""
        return self.end / RATE_HZ


class Voices:
    """Where somebody speaks, and where a recording may be cut.

    Args:
        spans: Speech, in order and apart from each other.
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._starts = [span.start for span in spans]
        self._ends = [span.end for span in spans]
        gaps = zip(self._ends, self._starts[1:], strict=False)
        self._cuts = [
            round(RATE_HZ * (end + start) / 2)
            for end, start in gaps
            if round(RATE_HZ * (start - end)) >= SHORTEST_PAUSE
        ]

    def is_silent(self, piece: Piece) -> bool:
        """Return whether nobody speaks in a piece."""
        first = bisect_right(self._ends, piece.start_s)
        return first == len(self._starts) or self._starts[first] >= piece.end_s

    def next_cut(self, start: int, end: int) -> int:
        """Return where a piece from `start` ends: at `end` if that is near enough."""
        if end - start <= LONGEST_PIECE:
            return end
        first = bisect_left(self._cuts, start + SHORTEST_PIECE)
        last = bisect_right(self._cuts, start + LONGEST_PIECE)
        return self._cuts[last - 1] if last > first else start + LONGEST_PIECE


def pieces(
    voices: Voices, clips: Sequence[tuple[int, int]], speech: Speech, begin: int = 0
) -> Iterator[Piece]:
    """Yield the pieces of a recording in order, silent ones too.

    Args:
        voices: Where somebody speaks.
        clips: The parts that are transcribed, in samples, in order.
        speech: What is to be skipped: no piece begins there.
        begin: Where an earlier run stood: the end of one of its pieces.
    """
    for clip_start, clip_end in clips:
        start = max(clip_start, begin)
        while (start := after_silence(start, speech)) < clip_end:
            end = voices.next_cut(start, clip_end)
            yield Piece(start, end)
            start = begin = end


def after_silence(sample: int, speech: Speech) -> int:
    """Return the sample itself, or the first one behind the skipped silence that it is in."""
    seconds = sample / RATE_HZ
    after = speech.after_silence(seconds)
    return math.ceil(after * RATE_HZ) if after > seconds else sample
