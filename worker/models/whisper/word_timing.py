"""Words and their times from aligned tokens, as openai-whisper computes them.

Tokens become words, punctuation joins its word, overlong words at pauses are shortened, and
segments take the times of their words. Constants without a comment are the reference's
(`whisper/timing.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from producer.errors import LengthMismatch
from producer.result import Word
from worker.models.whisper.dtw import Float64

FRAMES_PER_SECOND = 100
WINDOW_FRAMES = 3000
PREPEND_PUNCTUATIONS = "\"'“¿([{-"
# The full-width signs are those of Chinese and Japanese text.
APPEND_PUNCTUATIONS = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
_SENTENCE_END_MARKS = ".。!！?？"  # noqa: RUF001
_LONGEST_MEDIAN_S = 0.7
# A word that reaches further over its segment's timestamp is cut there.
_SNAP_S = 0.5


@dataclass(frozen=True, slots=True)
class WordTiming:
    """One word, its tokens, its times in seconds and the mean probability of its tokens."""

    word: str
    tokens: tuple[int, ...]
    start: float
    end: float
    probability: float

    @property
    def duration(self) -> float:
        """Return the seconds from start to end."""
        return self.end - self.start

    def to_result(self) -> Word:
        """Return the word as a transcript stores it."""
        return Word(word=self.word, start=self.start, end=self.end, probability=self.probability)


@dataclass(frozen=True, slots=True)
class TimedSegment:
    """A segment's times in seconds of the recording, its text tokens and, once aligned, words."""

    start: float
    end: float
    text_tokens: tuple[int, ...]
    words: tuple[WordTiming, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """A window's place in its recording, in mel frames (10 ms).

    Attributes:
        seek: First frame.
        num_frames: Frames of content in it, at most 3,000.
        content_frames: Frames of content in the whole recording.
    """

    seek: int
    num_frames: int
    content_frames: int

    @property
    def start_s(self) -> float:
        """Return the seconds of the recording at which the window starts."""
        return self.seek / FRAMES_PER_SECOND

    @property
    def end_s(self) -> float:
        """Return the seconds at which the window's 30 s end, padding included."""
        return (self.seek + WINDOW_FRAMES) / FRAMES_PER_SECOND


def find_words(
    words: Sequence[str],
    word_tokens: Sequence[Sequence[int]],
    times: Float64,
    token_probs: Sequence[float],
) -> list[WordTiming]:
    """Return the words of a window with their times, in seconds from its start.

    Args:
        words: From `split_to_word_tokens` of the text tokens and eot; the last one is eot's.
        word_tokens: The tokens of each word.
        times: From `dtw.token_times`: (text tokens + 1,).
        token_probs: Probability of each text token, (text tokens,).

    Raises:
        LengthMismatch: times or probabilities of another text.
    """
    ends = np.cumsum([len(tokens) for tokens in word_tokens[:-1]], dtype=int).tolist()
    if not ends:
        return []
    if len(times) != len(token_probs) + 1 or ends[-1] > len(token_probs):
        expected = f"{len(token_probs) + 1} times and at most {len(token_probs)} tokens in words"
        raise LengthMismatch("alignment: words", expected, [len(times), ends[-1]])
    return [
        WordTiming(
            word=word,
            tokens=tuple(tokens),
            start=float(times[first]),
            end=float(times[end]),
            probability=float(np.mean(token_probs[first:end])),
        )
        for word, tokens, first, end in zip(words, word_tokens, [0, *ends[:-1]], ends, strict=False)
    ]


def merge_punctuations(
    alignment: Sequence[WordTiming],
    prepended: str = PREPEND_PUNCTUATIONS,
    appended: str = APPEND_PUNCTUATIONS,
) -> list[WordTiming]:
    """Join opening punctuation to the word after it and closing punctuation to the word before.

    A joined word keeps its own times, because punctuation is not spoken.
    """
    merged = list(alignment)
    following = len(merged) - 1
    for index in range(len(merged) - 2, -1, -1):
        sign = merged[index].word
        if sign.startswith(" ") and sign.strip() in prepended:
            merged[following] = _joined(merged[index], merged[following], merged[following])
            merged[index] = replace(merged[index], word="", tokens=())
        else:
            following = index
    previous = 0
    for index in range(1, len(merged)):
        if not merged[previous].word.endswith(" ") and merged[index].word in appended:
            merged[previous] = _joined(merged[previous], merged[index], merged[previous])
            merged[index] = replace(merged[index], word="", tokens=())
        else:
            previous = index
    return [timing for timing in merged if timing.word or timing.tokens]


def add_word_timestamps(
    segments: Sequence[TimedSegment],
    alignment: Sequence[WordTiming],
    *,
    window: Window,
    last_speech_timestamp: float,
    prepend_punctuations: str = PREPEND_PUNCTUATIONS,
    append_punctuations: str = APPEND_PUNCTUATIONS,
) -> list[TimedSegment]:
    """Return a window's segments with their words, and with times that agree with the words.

    Args:
        segments: In order; their text tokens, joined, are what was aligned.
        alignment: From `find_words`, in seconds from the window's start.
        window: Where the window lies.
        last_speech_timestamp: Seconds at which the last word before the window ends.
        prepend_punctuations: Punctuation that joins the following word.
        append_punctuations: Punctuation that joins the word before.
    """
    durations = np.array([timing.duration for timing in alignment])
    durations = durations[durations.nonzero()]
    median = float(np.median(durations)) if len(durations) else 0.0
    median = min(_LONGEST_MEDIAN_S, median)
    clamped = _clamp_sentence_ends(alignment, 2 * median) if len(durations) else alignment
    merged = merge_punctuations(clamped, prepend_punctuations, append_punctuations)
    aligned = []
    for segment, timings in zip(segments, _words_by_segment(merged, segments), strict=True):
        words = [_placed(timing, window.start_s) for timing in timings if timing.word]
        if words:
            aligned.append(_snap(segment, words, median, last_speech_timestamp))
            last_speech_timestamp = aligned[-1].end
        else:
            aligned.append(replace(segment, words=()))
    return aligned


def last_word_end(segments: Sequence[TimedSegment]) -> float | None:
    """Return the seconds at which the last word ends; without words, the last segment's end."""
    for segment in reversed(segments):
        if segment.words:
            return segment.words[-1].end
    return segments[-1].end if segments else None


def _joined(left: WordTiming, right: WordTiming, spoken: WordTiming) -> WordTiming:
    return replace(spoken, word=left.word + right.word, tokens=left.tokens + right.tokens)


def _clamp_sentence_ends(alignment: Sequence[WordTiming], longest: float) -> list[WordTiming]:
    """Shorten marks that end a sentence, and the words after them, to `longest` seconds."""
    clamped = list(alignment[:1])
    for before, timing in pairwise(alignment):
        if timing.duration > longest and timing.word in _SENTENCE_END_MARKS:
            clamped.append(replace(timing, end=timing.start + longest))
        elif timing.duration > longest and before.word in _SENTENCE_END_MARKS:
            clamped.append(replace(timing, start=timing.end - longest))
        else:
            clamped.append(timing)
    return clamped


def _words_by_segment(
    timings: Sequence[WordTiming], segments: Sequence[TimedSegment]
) -> list[list[WordTiming]]:
    """Return each segment's words: in order, until they make up its text tokens."""
    by_segment: list[list[WordTiming]] = []
    remaining = iter(timings)
    for segment in segments:
        by_segment.append([])
        num_tokens = 0
        while num_tokens < len(segment.text_tokens):
            timing = next(remaining, None)
            if timing is None:
                break
            by_segment[-1].append(timing)
            num_tokens += len(timing.tokens)
    return by_segment


def _placed(timing: WordTiming, offset_s: float) -> WordTiming:
    """Return the word with times of the recording, rounded to hundredths of a second."""
    start, end = round(offset_s + timing.start, 2), round(offset_s + timing.end, 2)
    return replace(timing, start=start, end=end)


def _snap(
    segment: TimedSegment, words: list[WordTiming], median: float, last_speech_timestamp: float
) -> TimedSegment:
    """Return the segment with its words; its borders and theirs agree.

    A border word that reaches over the segment by more than `_SNAP_S` is cut there; otherwise the
    segment takes the word's time.
    """
    words = _shorten_after_pause(words, median, last_speech_timestamp)
    start, first = segment.start, words[0]
    if start < first.end and start - _SNAP_S > first.start:
        words[0] = replace(first, start=max(0.0, min(first.end - median, start)))
    else:
        start = first.start
    end, last = segment.end, words[-1]
    if end > last.start and end + _SNAP_S < last.end:
        words[-1] = replace(last, end=max(last.start + median, end))
    else:
        end = last.end
    return replace(segment, start=start, end=end, words=tuple(words))


def _shorten_after_pause(
    words: list[WordTiming], median: float, last_speech_timestamp: float
) -> list[WordTiming]:
    """Cut an overlong first word after a pause, and an overlong second one, to twice the median."""
    longest = 2 * median
    first, second = words[0], words[1] if len(words) > 1 else None
    is_long = first.duration > longest or (
        second is not None and second.end - first.start > 2 * longest
    )
    if first.end - last_speech_timestamp <= 4 * median or not is_long:
        return words
    if second is not None and second.duration > longest:
        boundary = max(second.end / 2, second.end - longest)
        first, second = replace(first, end=boundary), replace(second, start=boundary)
    first = replace(first, start=max(0.0, first.end - longest))
    return [first, *([second] if second is not None else []), *words[2:]]
