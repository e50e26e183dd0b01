"""Words, their punctuation, their segments and the silence around them, as the reference has it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import LengthMismatch
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.word_timing import (
    TimedSegment,
    Window,
    WordTiming,
    add_word_timestamps,
    find_words,
    is_segment_anomaly,
    last_word_end,
    merge_punctuations,
    settle_window,
    word_anomaly_score,
)

DATA = Path(__file__).parents[2] / "data"
MERGING = json.loads((DATA / "word_merging.json").read_text())
LOOPS = json.loads((DATA / "seek_loop.json").read_text())
WORD_LOOPS = [case for case in LOOPS if case["options"].get("word_timestamps")]
TIMESTAMP_BEGIN, EOT = 50363, 50256  # of the English vocabulary, which the stored loops use


def timing(word, start=0.0, end=0.3, probability=0.9, tokens=(1,)):
    return WordTiming(word, tuple(tokens), start, end, probability)


def timings(stored):
    return [timing(word, start, end, p, tokens) for word, tokens, start, end, p in stored]


def described(words):
    return [[word.word, word.start, word.end, word.probability] for word in words]


# --- Words ---


def test_a_word_spans_its_tokens_and_has_their_mean_probability():
    """Times are the boundaries of its first and last token."""
    words = find_words(
        [" Hello", " world", "<eot>"],
        [[1], [2, 3], [EOT]],
        np.array([0.0, 0.5, 0.7, 1.5]),
        [0.5, 0.2, 0.4],
    )
    assert [w.start for w in words] == [0.0, 0.5]
    assert [w.end for w in words] == [0.5, 1.5]
    assert [w.probability for w in words] == [0.5, pytest.approx(0.3)]
    assert words[1].to_result().model_dump() == {
        "word": " world",
        "start": 0.5,
        "end": 1.5,
        "probability": pytest.approx(0.3),
    }


def test_a_text_of_nothing_has_no_words():
    """Eot alone is not a word."""
    assert find_words(["<eot>"], [[EOT]], np.array([0.0]), []) == []


def test_times_of_another_text_are_refused():
    """A wrong length would shift every word silently."""
    with pytest.raises(LengthMismatch):
        find_words([" a", ""], [[1], [EOT]], np.array([0.0]), [0.5])
    with pytest.raises(LengthMismatch):
        find_words([" a", ""], [[1, 2], [EOT]], np.array([0.0, 0.1]), [0.5])


@pytest.mark.parametrize("case", MERGING, ids=range(len(MERGING)))
def test_words_and_segments_agree_with_the_reference_to_the_last_digit(case):
    """Clamped sentence ends, merged punctuation, shortened words at pauses, snapped borders."""
    tokenizer = Tokenizer(51865, case["language"])
    segments = [
        TimedSegment(s["start"], s["end"], tuple(t for t in s["tokens"] if t < tokenizer.eot))
        for s in case["segments"]
    ]
    aligned = add_word_timestamps(
        segments,
        timings(case["alignment"]),
        window=Window(case["segments"][0]["seek"], 3000, 999_999),
        last_speech_timestamp=case["last_speech_timestamp"],
    )
    actual = [{"start": s.start, "end": s.end, "words": described(s.words)} for s in aligned]
    assert actual == case["expected"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([" Hello", ",", " world", "."], [" Hello,", " world."]),
        ([" he", " said", ' "', "yes", '"', "."], [" he", " said", ' "yes".']),
        ([" (", " [", "a"], [" ( [a"]),
        ([" wait", ".", ".", "."], [" wait..."]),
        ([".", " Hello"], [".", " Hello"]),
        ([" well ", ","], [" well ", ","]),
        (["-", " a"], ["-", " a"]),
        ([" -", " a"], [" - a"]),
        ([" only"], [" only"]),
        ([], []),
    ],
)
def test_signs_join_the_word_they_belong_to(words, expected):
    """Opening signs need a space before them; closing ones follow without."""
    assert [w.word for w in merge_punctuations([timing(word) for word in words])] == expected


@settings(deadline=None, max_examples=100)
@given(words=st.lists(st.sampled_from([" a", "b", " -", "-", ",", " (", ")", " ", "", "。"])))
def test_merging_loses_neither_text_nor_tokens(words):
    """Whatever is joined, the whole stays the whole, in order."""
    given_words = [timing(word, tokens=(index,)) for index, word in enumerate(words)]
    merged = merge_punctuations(given_words)
    assert "".join(w.word for w in merged) == "".join(words)
    assert [token for w in merged for token in w.tokens] == list(range(len(words)))


# --- Anomalies and silence ---


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


def test_the_last_words_end_is_looked_up_backwards():
    """Segments without words are passed over, unless there is nothing else."""
    spoken = TimedSegment(0.0, 2.0, (), (timing("a", 0.0, 1.5),))
    silent = TimedSegment(2.0, 3.0, ())
    assert last_word_end([spoken, silent]) == 1.5
    assert last_word_end([silent]) == 3.0
    assert last_word_end([]) is None


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
