"""Words with times out of aligned tokens, and what follows from them, as openai-whisper has it.

Tokens become words, punctuation joins its word, overlong words at pauses are shortened, segments
snap to their words. Then the seek position moves to the last word, and silence around words that
look invented is skipped (`settle_window`): so asking for words can change later text.
All numbers that are not explained are the reference's (`whisper/timing.py`, `transcribe.py`).
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
# Full-width signs of Chinese and Japanese text are meant.
APPEND_PUNCTUATIONS = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
_PUNCTUATION = PREPEND_PUNCTUATIONS + APPEND_PUNCTUATIONS
_SENTENCE_END_MARKS = ".。!！?？"  # noqa: RUF001
_LONGEST_MEDIAN_S = 0.7
_SNAP_S = 0.5  # how far a word may reach over its segment's timestamp before it is cut


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
        """Seconds from start to end."""
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
    """Where a window lies, in mel frames (10 ms).

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
        """Seconds of the recording at which the window starts."""
        return self.seek / FRAMES_PER_SECOND

    @property
    def end_s(self) -> float:
        """Seconds at which the window's 30 s end, padding included."""
        return (self.seek + WINDOW_FRAMES) / FRAMES_PER_SECOND


@dataclass(frozen=True, slots=True)
class SettledWindow:
    """What is left of a window, and where to go on.

    Attributes:
        segments: The segments that are kept: the first ones of those given.
        seek: Frame at which the next window starts.
        last_speech_timestamp: Seconds at which the last word so far ends.
        is_discarded: The window began with silence and invention: it counts as never decoded,
            so the prompt's history stays as it was, too.
    """

    segments: tuple[TimedSegment, ...]
    seek: int
    last_speech_timestamp: float
    is_discarded: bool = False


def find_words(
    words: Sequence[str],
    word_tokens: Sequence[Sequence[int]],
    times: Float64,
    token_probs: Sequence[float],
) -> list[WordTiming]:
    """Give the words of a window their times, in seconds from its start.

    Args:
        words: From `split_to_word_tokens` of the text tokens and eot; the last one is eot's.
        word_tokens: The tokens of each word.
        times: From `alignment.token_times`: (text tokens + 1,).
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
    """Join opening signs to the word after them and closing ones to the word before.

    A joined word keeps its own times: signs are not spoken.
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
    """Give a window's segments their words, and times that agree with them.

    Args:
        segments: In order; their text tokens, joined, are what was aligned.
        alignment: From `find_words`, in seconds from the window's start.
        window: Where the window lies.
        last_speech_timestamp: Seconds at which the last word before the window ends.
        prepend_punctuations: Signs that join the following word.
        append_punctuations: Signs that join the word before.
    """
    durations = np.array([timing.duration for timing in alignment])
    durations = durations[durations.nonzero()]
    median = float(np.median(durations)) if len(durations) else 0.0
    median = min(_LONGEST_MEDIAN_S, median)
    clamped = _clamp_sentence_ends(alignment, 2 * median) if len(durations) else alignment
    merged = merge_punctuations(clamped, prepend_punctuations, append_punctuations)
    aligned = []
    for segment, timings in zip(segments, _deal(merged, segments), strict=True):
        words = [_placed(timing, window.start_s) for timing in timings if timing.word]
        if words:
            aligned.append(_snap(segment, words, median, last_speech_timestamp))
            last_speech_timestamp = aligned[-1].end
        else:
            aligned.append(replace(segment, words=()))
    return aligned


def last_word_end(segments: Sequence[TimedSegment]) -> float | None:
    """Return when the last word ends; without words, when the last segment does."""
    for segment in reversed(segments):
        if segment.words:
            return segment.words[-1].end
    return segments[-1].end if segments else None


def word_anomaly_score(word: WordTiming) -> float:
    """Score how odd a word is: improbable, shorter than 133 ms or longer than 2 s."""
    score = 1.0 if word.probability < 0.15 else 0.0  # noqa: PLR2004 - see the docstring
    if word.duration < 0.133:  # noqa: PLR2004
        score += (0.133 - word.duration) * 15
    if word.duration > 2.0:  # noqa: PLR2004
        score += word.duration - 2.0
    return score


def is_segment_anomaly(segment: TimedSegment | None) -> bool:
    """Tell whether a segment's first eight words look invented."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.word not in _PUNCTUATION][:8]
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
        seek: Frame at which the timestamp tokens alone would go on.
        single_timestamp_ending: The text ended in one timestamp: no speech after it.
        last_speech_timestamp: Seconds at which the last word before the window ends.
        hallucination_silence_threshold: Seconds of silence around odd words from which they are
            taken for invented; None keeps all.
    """
    kept = tuple(segments)
    end = last_word_end(kept)
    follows_words = not single_timestamp_ending and end is not None and end > window.start_s
    if follows_words and end is not None:
        seek = round(end * FRAMES_PER_SECOND)
    if (threshold := hallucination_silence_threshold) is not None:
        if follows_words and end is not None and window.end_s - end <= threshold:
            seek = window.seek + window.num_frames
        first = next_words_segment(kept)
        if first is not None and is_segment_anomaly(first):
            gap = first.start - window.start_s
            if gap > threshold:
                skipped = window.seek + round(gap * FRAMES_PER_SECOND)
                return SettledWindow((), skipped, last_speech_timestamp, is_discarded=True)
        invented = _first_hallucination(kept, window, last_speech_timestamp, threshold)
        if invented is not None:
            seek = _seek_of(kept[invented], window, threshold)
            kept = kept[:invented]
    end = last_word_end(kept)
    return SettledWindow(kept, seek, last_speech_timestamp if end is None else end)


def _first_hallucination(
    segments: Sequence[TimedSegment], window: Window, last_end: float, threshold: float
) -> int | None:
    """Return the index of the first odd segment between silence, or more oddity, on both sides."""
    for index, segment in enumerate(segments):
        if not segment.words:
            continue
        if is_segment_anomaly(segment):
            following = next_words_segment(segments[index + 1 :])
            next_start = (
                following.words[0].start
                if following is not None
                else window.start_s + window.num_frames / FRAMES_PER_SECOND
            )
            silence_before = (
                segment.start - last_end > threshold
                or segment.start < threshold
                or segment.start - window.start_s < 2.0  # noqa: PLR2004 - seconds at an edge
            )
            silence_after = (
                next_start - segment.end > threshold
                or is_segment_anomaly(following)
                or window.end_s - segment.end < 2.0  # noqa: PLR2004
            )
            if silence_before and silence_after:
                return index
        last_end = segment.end
    return None


def _seek_of(invented: TimedSegment, window: Window, threshold: float) -> int:
    """Go on where the invented segment starts, or end if hardly anything follows it."""
    if window.content_frames / FRAMES_PER_SECOND - invented.end < threshold:
        return window.content_frames
    return round(max(window.start_s + 1, invented.start) * FRAMES_PER_SECOND)


def _joined(left: WordTiming, right: WordTiming, spoken: WordTiming) -> WordTiming:
    return replace(spoken, word=left.word + right.word, tokens=left.tokens + right.tokens)


def _clamp_sentence_ends(alignment: Sequence[WordTiming], longest: float) -> list[WordTiming]:
    """Shorten overlong signs that end a sentence, and overlong words after them."""
    clamped = list(alignment[:1])
    for before, timing in pairwise(alignment):
        if timing.duration > longest and timing.word in _SENTENCE_END_MARKS:
            clamped.append(replace(timing, end=timing.start + longest))
        elif timing.duration > longest and before.word in _SENTENCE_END_MARKS:
            clamped.append(replace(timing, start=timing.end - longest))
        else:
            clamped.append(timing)
    return clamped


def _deal(
    timings: Sequence[WordTiming], segments: Sequence[TimedSegment]
) -> list[list[WordTiming]]:
    """Hand each segment words until they make up its tokens."""
    dealt: list[list[WordTiming]] = []
    remaining = iter(timings)
    for segment in segments:
        dealt.append([])
        num_tokens = 0
        while num_tokens < len(segment.text_tokens):
            timing = next(remaining, None)
            if timing is None:
                break
            dealt[-1].append(timing)
            num_tokens += len(timing.tokens)
    return dealt


def _placed(timing: WordTiming, offset_s: float) -> WordTiming:
    """Move a word from the window's time to the recording's, in whole hundredths."""
    start, end = round(offset_s + timing.start, 2), round(offset_s + timing.end, 2)
    return replace(timing, start=start, end=end)


def _snap(
    segment: TimedSegment, words: list[WordTiming], median: float, last_speech_timestamp: float
) -> TimedSegment:
    """Shorten overlong words at the segment's borders, then let the borders follow the words."""
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
    """Cut the first word, or two, after a pause to twice the median duration each."""
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
