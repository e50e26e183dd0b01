"""From labels to words and segments: spaces, times, punctuation, what says nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stage.scripted_parakeet import FRAME_S, IDS, PIECES, VOCABULARY, labels
from worker.models.parakeet.cut import RATE_HZ, Piece
from worker.models.parakeet.requests import Label
from worker.models.parakeet.segments import segments_of, words_of
from worker.models.parakeet.vocabulary import Vocabulary

PIECE = Piece(10 * RATE_HZ, 20 * RATE_HZ)


def words(*found, piece=PIECE, p=0.9):
    return words_of(labels(*found, p=p), VOCABULARY, piece, FRAME_S)


def segments(*found, with_words=True, p=0.9):
    return list(segments_of(words(*found, p=p), PIECE, with_words=with_words))


def test_pieces_become_words_with_times_in_the_recording():
    """A word begins with its first label and ends with its last one's duration."""
    first, second = words(("_hello", 0), ("_wor", 5, 1), ("ld", 6, 3))
    assert (first.text, first.start, first.end) == (" hello", 10.0, pytest.approx(10.16))
    assert (second.text, second.start, second.end) == (
        " world",
        pytest.approx(10.4),
        pytest.approx(10.72),
    )


def test_punctuation_belongs_to_the_word_before_and_makes_it_no_longer():
    """As NeMo refines its TDT times: a full stop is not spoken."""
    (word,) = words(("_hello", 3, 2), (".", 9, 4))
    assert (word.text, word.end) == (" hello.", pytest.approx(10 + 5 * FRAME_S))


def test_a_label_without_duration_lasts_a_frame_and_words_never_go_back():
    """TDT may find several labels in one frame."""
    first, second = words(("_hello", 3, 0), ("_z", 3, 0))
    assert (first.start, first.end) == (pytest.approx(10.24), pytest.approx(10.32))
    assert second.start == first.end
    assert second.end >= second.start


def test_times_lie_within_the_piece():
    """A duration may point behind the last frame."""
    (word,) = words(("_hello", 124, 4))
    assert word.end == PIECE.end_s


def test_special_pieces_and_spaces_alone_are_stripped():
    """v3's vocabulary has those of a prompt; none is text."""
    assert words(("<unk>", 0), ("<|nospeech|>", 1), ("_", 4)) == []
    (word,) = words(("<|nospeech|>", 0), ("_hello", 1), ("<unk>", 2))
    assert (word.text, word.tokens) == (" hello", (IDS["_hello"],))


def test_a_piece_that_begins_within_a_word_stands_alone():
    """After a cut at 30 s, for want of a pause: nothing is glued to the piece before."""
    (word,) = words(("ld", 0), (".", 2))
    assert word.text == " ld."


def test_bytes_are_put_together_to_characters():
    """Of what is in no piece; half a character is U+FFFD, no error."""
    (word,) = words(("_z", 0), ("<0xC3>", 1), ("<0xA9>", 2))
    assert word.text == " z\u00e9"
    (word,) = words(("_z", 0), ("<0xC3>", 1))
    assert word.text == " z\ufffd"


def test_segments_end_with_sentences_and_at_long_pauses():
    """A small letter behind a full stop goes on: an abbreviation."""
    found = segments(
        ("_hello", 0), (".", 2), ("_Next", 4), ("?", 5), ("_z", 8), (".", 9), ("_wor", 10)
    )
    assert [each.text for each in found] == [" hello.", " Next? z. wor"]
    paused = segments(("_hello", 0), ("_z", 15))
    assert [each.text for each in paused] == [" hello", " z"]
    assert [each.text for each in segments(("_hello", 0), ("_z", 14))] == [" hello z"]


def test_a_spanish_question_opens_a_sentence():
    """Its first character is no letter, and no small one."""
    found = segments(("_hello", 0), (".", 2), ("_\u00bfQu", 4))
    assert [each.text for each in found] == [" hello.", " \u00bfQu"]


def test_a_segments_figures_are_this_familys_own():
    """Whisper's are absent: nothing was sampled, and no token says silence."""
    (segment,) = segments(("_hello", 0), ("_z", 3), p=0.5)
    assert (segment.temperature, segment.no_speech_prob) == (None, None)
    assert segment.avg_logprob == pytest.approx(math.log(0.5))
    assert segment.confidence == pytest.approx(0.5)
    assert (segment.seek, segment.start, segment.end) == (1000, 10.0, 10.4)
    assert segment.tokens == [IDS["_hello"], IDS["_z"]]
    assert [word.probability for word in segment.words] == pytest.approx([0.5, 0.5])
    assert segment.flags == []
    assert segments(("_hello", 0), with_words=False)[0].words is None


def test_a_word_is_as_sure_as_its_least_likely_label():
    """NeMo's `min` aggregation."""
    found = [Label(IDS["_wor"], 0, 1, math.log(0.9)), Label(IDS["ld"], 1, 1, math.log(0.2))]
    (word,) = words_of(found, VOCABULARY, PIECE, FRAME_S)
    assert word.probability == pytest.approx(0.2)


def test_unlikely_and_repetitive_text_is_flagged():
    """With the thresholds of the other family, so that a flag means the same."""
    assert segments(("_hello", 0), p=0.3)[0].flags == ["low_confidence"]
    again = segments(*(("_hello", 2 * number) for number in range(5)))
    assert again[0].flags == ["repetition"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(PIECES) - 1),
            st.integers(0, 130),
            st.integers(0, 9),
            st.floats(-1e4, 0),
        ),
        max_size=40,
    )
)
def test_whatever_is_found_gives_segments_in_order_within_the_piece(found):
    """Random weights say anything; no text, no token, one frame for all."""
    said = [Label(*each) for each in sorted(found, key=lambda each: each[1])]
    made = list(segments_of(words_of(said, VOCABULARY, PIECE, FRAME_S), PIECE, with_words=True))
    times = [time for each in made for word in each.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(PIECE.start_s <= time <= PIECE.end_s for time in times)
    assert all(each.text.strip() and math.isfinite(each.avg_logprob) for each in made)
    assert all(0 <= each.confidence <= 1 for each in made)


def test_a_piece_that_is_no_text_becomes_a_question_mark():
    """JSON may hold half a character; a result may not."""
    odd = Vocabulary(("<unk>", "\u2581a\ud800"))
    (word,) = words_of([Label(1, 0, 1, -0.1)], odd, PIECE, FRAME_S)
    assert word.text == " a?"
