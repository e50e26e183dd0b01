"""Word times for the segments of one window: ask for the alignment, then follow from it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from producer.job import Options
from producer.result import Segment
from worker.engine.requests import Compute, Requests, ask
from worker.models.whisper.dtw import token_times
from worker.models.whisper.hallucination import SettledWindow, settle_window
from worker.models.whisper.requests import Align, Alignment
from worker.models.whisper.segments import CutWindow
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.word_timing import (
    TimedSegment,
    Window,
    WordTiming,
    add_word_timestamps,
    find_words,
)


class WordTimes:
    """Word timestamps of one recording; remembers where the last word ended.

    Attributes:
        last_speech_s: Seconds at which the last word so far ends.
    """

    def __init__(self, options: Options, last_speech_s: float) -> None:
        self.last_speech_s = last_speech_s
        self._silence_threshold = options.hallucination_silence_threshold

    def add(
        self, states: Any, cut: CutWindow, window: Window, tokenizer: Tokenizer
    ) -> Requests[tuple[list[Segment] | None, int]]:
        """Align a window's text and give its segments words.

        Args:
            states: The window's encoder states.
            cut: Its segments, and where the timestamps alone would go on.
            window: Where the window lies.
            tokenizer: Of the recording's language.

        Returns:
            The segments that are kept (None: the window counts as never decoded), and the seek.
        """
        timed = [_timed(segment, tokenizer.eot) for segment in cut.segments]
        text = [token for segment in timed for token in segment.text_tokens]
        alignment: Alignment | None = None
        if text:
            start = tokenizer.sot_sequence_including_notimestamps
            tokens = (*start, *text, tokenizer.eot)
            alignment = yield from ask(Align(states, tokens, tokenizer.eot))
        align = partial(self._align, timed, text, alignment, window, tokenizer)
        aligned = yield from ask(Compute(align))
        settled: SettledWindow = settle_window(
            aligned,
            window,
            cut.next_seek,
            single_timestamp_ending=cut.single_timestamp_ending,
            last_speech_timestamp=self.last_speech_s,
            hallucination_silence_threshold=self._silence_threshold,
        )
        self.last_speech_s = settled.last_speech_timestamp
        if settled.is_discarded:
            return None, settled.seek
        kept = zip(cut.segments, settled.segments, strict=False)
        return [_with_words(segment, timing) for segment, timing in kept], settled.seek

    def _align(
        self,
        timed: Sequence[TimedSegment],
        text: list[int],
        alignment: Alignment | None,
        window: Window,
        tokenizer: Tokenizer,
    ) -> list[TimedSegment]:
        """Turn attention into words; tens of milliseconds of numpy."""
        words: list[WordTiming] = []
        if alignment is not None:
            num_sot = len(tokenizer.sot_sequence)
            times = token_times(alignment.cross_qk, window.num_frames, num_sot)
            probabilities = np.exp(alignment.logprobs[num_sot : num_sot + len(text)])
            spelt = tokenizer.split_to_word_tokens([*text, tokenizer.eot])
            words = find_words(*spelt, times, probabilities.tolist())
        return add_word_timestamps(
            timed, words, window=window, last_speech_timestamp=self.last_speech_s
        )


def _timed(segment: Segment, eot: int) -> TimedSegment:
    text_tokens = tuple(token for token in segment.tokens if token < eot)
    return TimedSegment(segment.start, segment.end, text_tokens)


def _with_words(segment: Segment, timing: TimedSegment) -> Segment:
    words = [word.to_result() for word in timing.words]
    return segment.model_copy(update={"start": timing.start, "end": timing.end, "words": words})
