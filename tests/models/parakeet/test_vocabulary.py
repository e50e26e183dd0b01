"""Tokens and what they say: SentencePiece's pieces, bytes among them, and those that are no text."""

import pytest

from producer.errors import InvalidModel
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.parakeet.weights.tokens import from_sentencepiece, from_tokenizer_json

PIECES = (
    "<unk>",
    "▁the",
    "▁c",
    "at",
    "<|nospeech|>",
    "<0xC3>",
    "<0xA9>",
    "<pad>",
    ".",
    "<|en|>",
    "<",
)
VOCABULARY = Vocabulary(PIECES)


def test_pieces_become_text():
    """A word's first piece brings its space; bytes become characters; marks are left out."""
    assert VOCABULARY.text([1, 2, 3, 8]) == " the cat."
    assert VOCABULARY.text([0, 4, 2, 5, 6, 7, 9]) == " cé"
    assert VOCABULARY.text([2, 5, 8]) == " c\ufffd."
    assert VOCABULARY.text([]) == ""


def test_marks_are_known_by_their_form():
    """And by what the tokenizer's file says."""
    assert VOCABULARY.special == {0, 4, 7, 9}
    assert Vocabulary(PIECES, frozenset({8})).special == {0, 4, 7, 8, 9}
    assert [token in VOCABULARY.word_starts for token in (1, 3, 4)] == [True, False, False]


@pytest.mark.parametrize(
    "model",
    [
        {"type": "Unigram", "vocab": [[piece, -1.0] for piece in PIECES]},
        {"type": "BPE", "vocab": {piece: at for at, piece in enumerate(PIECES)}},
    ],
)
def test_tokenizer_json_is_read(model):
    """Of either kind; the blank and what lies beyond are not the model's."""
    added = [{"id": 7, "content": "<pad>", "special": True}, {"id": 11, "content": "<b>"}]
    found = from_tokenizer_json({"model": model, "added_tokens": added}, 11, "it")
    assert found == Vocabulary(PIECES, frozenset({7}))


@pytest.mark.parametrize(
    "parsed",
    [
        {},
        {"model": {"vocab": []}},
        {"model": {"vocab": {"a": 0, "b": 2}}},
        {"model": 3},
        {"model": {"vocab": [["a"], [7]]}},
    ],
)
def test_a_tokenizer_with_holes_is_refused(parsed):
    """Every label needs a piece."""
    with pytest.raises(InvalidModel, match="must have 2 tokens"):
        from_tokenizer_json(parsed, 2, "it")


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


def piece(text, kind=None):
    score = b"\x15\x00\x00\x80\xbf"
    return field(
        1, field(1, text.encode()) + score + (b"" if kind is None else bytes([0x18, kind]))
    )


def test_sentencepiece_is_read():
    """Its protocol buffer, with the parts that we do not need."""
    data = piece("<unk>", 2) + piece("▁the") + piece("<x>", 3) + piece("<0x41>", 6)
    data += field(2, b"trainer") + field(3, b"normalizer")
    assert from_sentencepiece(data, "it") == Vocabulary(
        ("<unk>", "▁the", "<x>", "<0x41>"), frozenset({0, 2})
    )


@pytest.mark.parametrize(
    "data",
    [b"\x0a\x7f", b"\x0a", b"\xff" * 12, field(1, b"\x08\x01"), field(1, field(1, b"\xff"))],
)
def test_what_is_no_sentencepiece_is_refused(data):
    """Broken off, nonsense, or a text that is none."""
    with pytest.raises(InvalidModel, match="SentencePiece"):
        from_sentencepiece(data, "it")


def test_spoken_are_the_tokens_with_a_letter_or_a_digit():
    """Punctuation, spaces, special pieces and bytes are none."""
    vocabulary = Vocabulary(("<unk>", "\u2581a", ",", "\u2581", "7", "<0x41>", "<0xC3>", "\u00e9"))
    assert vocabulary.spoken == {1, 4, 5, 7}
