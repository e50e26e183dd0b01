"""A transcript as its page shows it: words with times, what is doubtful, lanes, a part at a time."""

import math
import re
from typing import NamedTuple

from producer.result import Segment, Transcript
from producer.web.charts import lane_of

# Whisper's mean word probability is near 0.9; of words below a half every second or so is wrong.
DOUBTFUL_BELOW = 0.5
# Segments of one page: about an hour of speech.
SEGMENTS_A_PART = 600
# Lanes that the page tells apart by colour.
MAX_LANES = 8
_WORD = re.compile(r"\w+", re.UNICODE)


class ShownWord(NamedTuple):
    """A word with the space before it, when it is spoken, and how it is marked."""

    space: str
    text: str
    start: float
    probability: float | None = None
    is_doubtful: bool = False
    is_hit: bool = False


class ShownSegment(NamedTuple):
    """A stretch of text; `lane` counts from 0, -1 without lanes."""

    id: int
    start: float
    end: float
    flags: tuple[str, ...]
    words: list[ShownWord]
    lane: int
    is_hit: bool


class TextView(NamedTuple):
    """One part of a transcript.

    Attributes:
        parts: (number, start in seconds) of each part.
        lanes: Names of channels or tracks, if the recording has more than one.
        num_doubtful, num_flagged: In the whole recording.
    """

    segments: list[ShownSegment]
    part: int
    parts: list[tuple[int, float]]
    lanes: list[str]
    num_doubtful: int
    num_flagged: int
    has_words: bool


def text_view(transcript: Transcript, part: int = 1, query: str = "") -> TextView:
    """Return a part of a transcript, from 1, with the words of a query marked."""
    segments, lanes = transcript.segments, lanes_of(transcript)
    starts = list(range(0, len(segments), SEGMENTS_A_PART)) or [0]
    part = min(max(1, part), len(starts))
    first = starts[part - 1]
    wanted = frozenset(_words(query))
    return TextView(
        [_shown(each, lanes, wanted) for each in segments[first : first + SEGMENTS_A_PART]],
        part,
        [
            (number, segments[start].start if segments else 0.0)
            for number, start in enumerate(starts, 1)
        ],
        lanes,
        sum(_is_doubtful(word.probability) for each in segments for word in each.words or ()),
        sum(bool(each.flags) for each in segments),
        any(each.words for each in segments),
    )


def part_of_hit(transcript: Transcript, query: str) -> int:
    """Return the part in which a query's words are first found; 1 if they are not."""
    wanted = frozenset(_words(query))
    for index, segment in enumerate(transcript.segments):
        if wanted and wanted & set(_words(segment.text)):
            return index // SEGMENTS_A_PART + 1
    return 1


def lanes_of(transcript: Transcript) -> list[str]:
    """Return the names of a recording's lanes; none if there is only one."""
    names = {(each.track or 0, each.channel or 0): each for each in transcript.segments}
    lanes = [lane_of(names[key].channel, names[key].track) for key in sorted(names)]
    return lanes if len(lanes) > 1 else []


def _shown(segment: Segment, lanes: list[str], wanted: frozenset[str]) -> ShownSegment:
    words = [
        ShownWord(
            *_apart(word.word),
            _time(word.start),
            word.probability,
            _is_doubtful(word.probability),
            bool(wanted & set(_words(word.word))),
        )
        for word in segment.words or ()
    ]
    words = words or _unspoken(segment, wanted)
    lane = lanes.index(lane_of(segment.channel, segment.track)) if lanes else -1
    return ShownSegment(
        segment.id,
        _time(segment.start),
        _time(segment.end),
        tuple(segment.flags),
        words,
        min(lane, MAX_LANES - 1),
        any(word.is_hit for word in words),
    )


def _unspoken(segment: Segment, wanted: frozenset[str]) -> list[ShownWord]:
    """Return the text of a segment without times of words: all of it is at the segment's start."""
    pieces = re.split(r"(\w+)", segment.text) if wanted else [segment.text]
    start = _time(segment.start)
    return [
        ShownWord(*_apart(piece), start, is_hit=bool(wanted & set(_words(piece))))
        for piece in pieces
        if piece
    ]


def _apart(text: str) -> tuple[str, str]:
    word = text.lstrip()
    return text[: len(text) - len(word)], word


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _is_doubtful(probability: float) -> bool:
    return probability < DOUBTFUL_BELOW


def _time(seconds: float) -> float:
    """Return a time that a player can go to."""
    return round(seconds, 3) if math.isfinite(seconds) and seconds > 0 else 0.0
