"""Hallucinations and the silence around them, kept and skipped as the reference does it."""

import json
import math
from pathlib import Path

import pytest

from tests.stage.spoken_words import described, timing, timings
from worker.models.whisper.hallucination import (
    is_segment_anomaly,
    settle_window,
    word_anomaly_score,
)
from worker.models.whisper.word_timing import TimedSegment, Window, add_word_timestamps

DATA = Path(__file__).parents[2] / "data"
LOOPS = json.loads((DATA / "seek_loop.json").read_text())
WORD_LOOPS = [case for case in LOOPS if case["options"].get("word_timestamps")]
TIMESTAMP_BEGIN, EOT = 50363, 50256  # of the English vocabulary, which the stored loops use


@pytest.mark.parametrize(
    ("word", "score"),
    [
        (timing("a", 0.0, 0.5, 0.9), 0.0),
        (timing("a", 0.0, 0.5, 0.149), 1.0),
        (timing("a", 0.0, 0.5, 0.15), 0.0),
        (timing("a", 0.0, 0.033, 0.9), 1.5),
        (timing("a", 0.0, 3.5, 0.1), 2.5),
    ],
)
def test_a_word_is_odd_if_improbable_short_or_long(word, score):
    """The three scores add up."""
    assert word_anomaly_score(word) == pytest.approx(score)


def test_a_segment_is_odd_by_its_first_eight_spoken_words():
    """Punctuation and later words do not count; no words, no judgement."""
    odd, fine = timing("a", probability=0.1), timing("b")

    def segment(*words):
        return TimedSegment(0.0, 1.0, (), tuple(words))

    assert is_segment_anomaly(segment(odd, odd, odd, *[fine] * 10))
    assert not is_segment_anomaly(segment(odd, odd, *[fine] * 10))
    assert not is_segment_anomaly(segment(*[fine] * 8, *[odd] * 8))
    assert is_segment_anomaly(segment(odd, timing("-")))
    assert not is_segment_anomaly(segment())
    assert not is_segment_anomaly(None)


def test_leading_silence_before_an_odd_segment_is_skipped_and_the_window_discarded():
    """The next window starts where the odd words did, as if this one had not been decoded."""
    odd = TimedSegment(14.0, 15.0, (), (timing("a", 14.0, 15.0, 0.01),))
    settled = settle_window(
        [odd],
        Window(1000, 3000, 9000),
        4000,
        single_timestamp_ending=True,
        last_speech_timestamp=9.0,
        hallucination_silence_threshold=2.0,
    )
    assert settled.is_discarded
    assert (settled.segments, settled.seek, settled.last_speech_timestamp) == ((), 1400, 9.0)


def test_without_a_threshold_odd_segments_stay():
    """Seek follows the last word; nothing is judged."""
    odd = TimedSegment(14.0, 15.0, (), (timing("a", 14.0, 15.0, 0.01),))
    settled = settle_window(
        [odd],
        Window(1000, 3000, 9000),
        4000,
        single_timestamp_ending=False,
        last_speech_timestamp=9.0,
    )
    assert not settled.is_discarded
    assert (settled.segments, settled.seek, settled.last_speech_timestamp) == ((odd,), 1500, 15.0)


def cut_at_timestamps(tokens, window):
    """Segments of a window's tokens, the seek they ask for, and if they end in one timestamp."""
    is_time = [token >= TIMESTAMP_BEGIN for token in tokens]
    is_single = is_time[-2:] == [False, True]
    cuts = [at for at in range(1, len(tokens)) if is_time[at - 1] and is_time[at]]
    if not cuts:
        times = [token - TIMESTAMP_BEGIN for token in tokens if token >= TIMESTAMP_BEGIN]
        duration_s = times[-1] * 0.02 if times and times[-1] else window.num_frames / 100
        pieces = [(window.start_s, window.start_s + duration_s, tokens)]
        return pieces, window.seek + window.num_frames, is_single
    seek = window.seek + 2 * (tokens[cuts[-1] - 1] - TIMESTAMP_BEGIN)
    if is_single:
        cuts.append(len(tokens))
        seek = window.seek + window.num_frames
    pieces = [
        (
            window.start_s + (tokens[first] - TIMESTAMP_BEGIN) * 0.02,
            window.start_s + (tokens[end - 1] - TIMESTAMP_BEGIN) * 0.02,
            tokens[first:end],
        )
        for first, end in zip([0, *cuts[:-1]], cuts, strict=True)
    ]
    return pieces, seek, is_single


@pytest.mark.parametrize("case", WORD_LOOPS, ids=lambda case: f"seed-{case['seed']}")
def test_whole_recordings_keep_and_skip_what_the_reference_keeps_and_skips(case):
    """Window by window: words, segment times and the seek after silence and invention."""
    expected, last_speech = iter(case["segments"]), 0.0
    clips = "clip_timestamps" in case["options"]
    following = [*case["windows"][1:], {"seek": math.inf}]
    for asked, after in zip(case["windows"], following, strict=True):
        window = Window(asked["seek"], asked["size"], case["content_frames"])
        if "alignment" not in asked:
            continue  # skipped as silence
        pieces, seek, is_single = cut_at_timestamps(asked["decodes"][-1]["tokens"], window)
        segments = add_word_timestamps(
            [TimedSegment(a, b, tuple(t for t in ts if t < EOT)) for a, b, ts in pieces],
            timings(asked["alignment"]),
            window=window,
            last_speech_timestamp=last_speech,
        )
        settled = settle_window(
            segments,
            window,
            seek,
            single_timestamp_ending=is_single,
            last_speech_timestamp=last_speech,
            hallucination_silence_threshold=case["options"].get("hallucination_silence_threshold"),
        )
        last_speech = settled.last_speech_timestamp
        for segment in settled.segments:
            stored = next(expected)
            assert (segment.start, segment.end) == (stored["start"], stored["end"])
            if stored["text"]:  # blank segments are cleared by the window loop
                assert described(segment.words) == stored["words"]
        if not clips:
            assert min(settled.seek, case["content_frames"]) == min(
                after["seek"], case["content_frames"]
            )
    assert next(expected, None) is None
