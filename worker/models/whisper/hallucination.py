"""Hallucinations next to silence, judged by their words, and where the next window starts.

The seek position moves to the end of the last word, and silence around words that look
hallucinated is skipped. So asking for word timestamps can change later text, as in openai-whisper
(`whisper/transcribe.py`, whose constants these are).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.models.whisper.word_timing import (
    APPEND_PUNCTUATIONS,
    FRAMES_PER_SECOND,
    PREPEND_PUNCTUATIONS,
    TimedSegment,
    Window,
    WordTiming,
    last_word_end,
)

_PUNCTUATION = PREPEND_PUNCTUATIONS + APPEND_PUNCTUATIONS
_NUM_JUDGED_WORDS = 8
# Nearer than this to the edge of the window, no silence is needed on that side.
_EDGE_S = 2.0


@dataclass(frozen=True, slots=True)
class SettledWindow:
    """The segments kept of a window, and where the next one starts.

    Attributes:
        segments: The segments that are kept: the first ones of those given.
        seek: Frame at which the next window starts.
        last_speech_timestamp: Seconds at which the last word so far ends.
        is_discarded: The window began with silence and a hallucination. It counts as not decoded:
            the prompt's history does not change either.
    """

    segments: tuple[TimedSegment, ...]
    seek: int
    last_speech_timestamp: float
    is_discarded: bool = False


def word_anomaly_score(word: WordTiming) -> float:
    """Return how unusual a word is; 0 is usual.

    1 for a probability below 0.15, 15 for each second under 0.133 s, 1 for each second over 2 s.
    """
    score = 1.0 if word.probability < 0.15 else 0.0  # noqa: PLR2004 - see the docstring
    if word.duration < 0.133:  # noqa: PLR2004
        score += (0.133 - word.duration) * 15
    if word.duration > 2.0:  # noqa: PLR2004
        score += word.duration - 2.0
    return score


def is_segment_anomaly(segment: TimedSegment | None) -> bool:
    """Return whether a segment's first eight words, without punctuation, look hallucinated."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.word not in _PUNCTUATION]
    words = words[:_NUM_JUDGED_WORDS]
    score = sum(word_anomaly_score(word) for word in words)
    return score >= 3 or score + 0.01 >= len(words)  # noqa: PLR2004 - the reference's


def next_words_segment(segments: Sequence[TimedSegment]) -> TimedSegment | None:
    """Return the first segment that has words."""
    return next((segment for segment in segments if segment.words), None)


def settle_window(
    segments: Sequence[TimedSegment],
    window: Window,
    seek: int,
    *,
    single_timestamp_ending: bool,
    last_speech_timestamp: float,
    hallucination_silence_threshold: float | None = None,
) -> SettledWindow:
    """Decide, from a window's words, what is kept and where the next window starts.

    Args:
        segments: From `add_word_timestamps`.
        window: Where the window lies.
        seek: Frame at which the next window starts by the timestamp tokens alone.
        single_timestamp_ending: The text ended in a single timestamp: no speech after it.
        last_speech_timestamp: Seconds at which the last word before the window ends.
        hallucination_silence_threshold: Seconds of silence around unusual words above which they
            count as hallucinated; None keeps all.
    """
    end = last_word_end(segments)
    ends_at_word = not single_timestamp_ending and end is not None and end > window.start_s
    if ends_at_word and end is not None:
        seek = round(end * FRAMES_PER_SECOND)
    threshold = hallucination_silence_threshold
    if threshold is None:
        return _settled(segments, seek, last_speech_timestamp)
    if ends_at_word and end is not None and window.end_s - end <= threshold:
        seek = window.seek + window.num_frames
    first = next_words_segment(segments)
    gap = first.start - window.start_s if first is not None else 0.0
    if is_segment_anomaly(first) and gap > threshold:
        skipped = window.seek + round(gap * FRAMES_PER_SECOND)
        return SettledWindow((), skipped, last_speech_timestamp, is_discarded=True)
    index = _first_hallucination(segments, window, last_speech_timestamp, threshold)
    if index is not None:
        seek = _seek_after(segments[index], window, threshold)
        segments = segments[:index]
    return _settled(segments, seek, last_speech_timestamp)


def _settled(segments: Sequence[TimedSegment], seek: int, last_end: float) -> SettledWindow:
    end = last_word_end(segments)
    return SettledWindow(tuple(segments), seek, last_end if end is None else end)


def _first_hallucination(
    segments: Sequence[TimedSegment], window: Window, last_end: float, threshold: float
) -> int | None:
    """Return the index of the first anomaly with silence, or another anomaly, on both sides."""
    for index, segment in enumerate(segments):
        if not segment.words:
            continue
        if (
            is_segment_anomaly(segment)
            and _is_silent_before(segment, window, last_end, threshold)
            and _is_silent_after(segment, segments[index + 1 :], window, threshold)
        ):
            return index
        last_end = segment.end
    return None


def _is_silent_before(
    segment: TimedSegment, window: Window, last_end: float, threshold: float
) -> bool:
    """Return whether silence, or the start of the recording or window, is before a segment."""
    return (
        segment.start - last_end > threshold
        or segment.start < threshold
        or segment.start - window.start_s < _EDGE_S
    )


def _is_silent_after(
    segment: TimedSegment, later: Sequence[TimedSegment], window: Window, threshold: float
) -> bool:
    """Return whether silence, another anomaly or the window's end is after a segment."""
    following = next_words_segment(later)
    if following is None:
        next_start = window.start_s + window.num_frames / FRAMES_PER_SECOND
    else:
        next_start = following.words[0].start
    return (
        next_start - segment.end > threshold
        or is_segment_anomaly(following)
        or window.end_s - segment.end < _EDGE_S
    )


def _seek_after(hallucination: TimedSegment, window: Window, threshold: float) -> int:
    """Return the start of the hallucination, or the recording's end if less follows it."""
    if window.content_frames / FRAMES_PER_SECOND - hallucination.end < threshold:
        return window.content_frames
    return round(max(window.start_s + 1, hallucination.start) * FRAMES_PER_SECOND)
