"""Words, their punctuation and their segments, as the reference has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import LengthMismatch
from tests.stage.spoken_words import described, timing, timings
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.word_timing import (
    TimedSegment,
    Window,
    add_word_timestamps,
    find_words,
    last_word_end,
    merge_punctuations,
)

DATA = Path(__file__).parents[2] / "data"
MERGING = json.loads((DATA / "word_merging.json").read_text())
EOT = 50256  # of the English vocabulary


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


def test_the_last_words_end_is_looked_up_backwards():
    """Segments without words are passed over, unless there is nothing else."""
    spoken = TimedSegment(0.0, 2.0, (), (timing("a", 0.0, 1.5),))
    silent = TimedSegment(2.0, 3.0, ())
    assert last_word_end([spoken, silent]) == 1.5
    assert last_word_end([silent]) == 3.0
    assert last_word_end([]) is None
