"""Cut a window's tokens into segments at their timestamps, as openai-whisper's `transcribe` does."""

from collections.abc import Sequence
from dataclasses import dataclass

from producer.result import Segment
from worker.models.whisper.fallback import Attempt
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.vocabulary import TIMESTAMP_S
from worker.models.whisper.word_timing import FRAMES_PER_SECOND

FRAMES_PER_TIMESTAMP = 2


@dataclass(frozen=True)
class CutWindow:
    """A window's segments, and where the next window starts.

    Attributes:
        segments: With times in seconds of the recording; not numbered yet.
        next_seek: Mel frame at which decoding goes on.
        single_timestamp_ending: The text ended in one timestamp: no speech after it.
    """

    segments: list[Segment]
    next_seek: int
    single_timestamp_ending: bool


def cut_window(attempt: Attempt, tokenizer: Tokenizer, seek: int, size: int) -> CutWindow:
    """Cut the tokens of an attempt at the window of `size` mel frames that starts at `seek`."""
    tokens, begin = attempt.decoded.tokens, tokenizer.timestamp_begin
    is_timestamp = [token >= begin for token in tokens]
    single_timestamp_ending = is_timestamp[-2:] == [False, True]
    ends = [
        index for index in range(1, len(tokens)) if is_timestamp[index - 1] and is_timestamp[index]
    ]
    if not ends:
        seconds = _unpaired_seconds(tokens, begin, size)
        segment = _segment(attempt, tokenizer, seek, tokens, start=0.0, end=seconds)
        return CutWindow([segment], seek + size, single_timestamp_ending)
    if single_timestamp_ending:
        ends.append(len(tokens))
    starts = [0, *ends[:-1]]
    segments = [
        _segment(
            attempt,
            tokenizer,
            seek,
            tokens[start:end],
            start=(tokens[start] - begin) * TIMESTAMP_S,
            end=(tokens[end - 1] - begin) * TIMESTAMP_S,
        )
        for start, end in zip(starts, ends, strict=True)
    ]
    if single_timestamp_ending:
        return CutWindow(segments, seek + size, single_timestamp_ending=True)
    # What follows the last pair is unfinished: the next window starts there and reads it again.
    last = tokens[ends[-1] - 1] - begin
    next_seek = seek + last * FRAMES_PER_TIMESTAMP
    return CutWindow(segments, next_seek, single_timestamp_ending=False)


def _unpaired_seconds(tokens: Sequence[int], begin: int, size: int) -> float:
    """Return the length of a window without a pair: to its last timestamp, or all of it."""
    timestamps = [token for token in tokens if token >= begin]
    if timestamps and timestamps[-1] != begin:
        return (timestamps[-1] - begin) * TIMESTAMP_S
    return size / FRAMES_PER_SECOND


def _segment(
    attempt: Attempt,
    tokenizer: Tokenizer,
    seek: int,
    tokens: Sequence[int],
    *,
    start: float,
    end: float,
) -> Segment:
    """Return a segment whose times are counted from the recording's start."""
    offset = seek / FRAMES_PER_SECOND
    text_tokens = [token for token in tokens if token < tokenizer.eot]
    return Segment(
        id=0,
        seek=seek,
        start=offset + start,
        end=offset + end,
        text=tokenizer.decode(text_tokens),
        tokens=list(tokens),
        temperature=attempt.temperature,
        avg_logprob=attempt.decoded.avg_logprob,
        compression_ratio=attempt.compression_ratio,
        no_speech_prob=attempt.decoded.no_speech_prob,
        flags=list(attempt.flags),
    )
