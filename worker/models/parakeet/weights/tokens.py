"""A model's pieces from its tokenizer's files: `tokenizer.json`, or SentencePiece's `.model`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from producer.errors import InvalidModel
from worker.models.parakeet.vocabulary import Vocabulary

_MAX_PIECES = 1 << 17
# SentencePiece's types of pieces that are no text: unknown, control, user-defined marks, unused.
_NO_TEXT = (2, 3, 5)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def from_tokenizer_json(parsed: dict[str, Any], num_labels: int, source: str) -> Vocabulary:
    """Return the pieces of a `tokenizer.json` of Hugging Face's tokenizers, Unigram or BPE.

    Tokens that were added, as the blank is, may lie beyond the model's.

    Raises:
        InvalidModel: ids do not cover 0 .. num_labels - 1.
    """
    model, added = parsed.get("model"), parsed.get("added_tokens", [])
    listed = model.get("vocab") if isinstance(model, dict) else None
    by_id: dict[int, str] = {}
    if isinstance(listed, dict):
        by_id = {index: piece for piece, index in listed.items() if isinstance(index, int)}
    elif isinstance(listed, list):
        by_id = {
            index: each[0] for index, each in enumerate(listed) if isinstance(each, list) and each
        }
    special = set()
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and isinstance(token.get("id"), int):
            by_id[token["id"]] = token.get("content", "")
            if token.get("special"):
                special.add(token["id"])
    pieces = [by_id.get(index) for index in range(num_labels)]
    for index, piece in enumerate(pieces):
        if not isinstance(piece, str):
            raise InvalidModel(f"{source}: vocab", f"must have {num_labels} tokens", f"no {index}")
    texts = tuple(str(piece) for piece in pieces)
    return Vocabulary(texts, frozenset(index for index in special if index < num_labels))


def from_sentencepiece(data: bytes, source: str) -> Vocabulary:
    """Return the pieces of a SentencePiece model.

    It is a protocol buffer (`sentencepiece_model.proto`): field 1, repeated, holds a piece, with its
    text in field 1 and its type in field 3.

    Raises:
        InvalidModel: not such a file.
    """
    try:
        pieces = list(islice(_pieces(data), _MAX_PIECES + 1))
    except (ValueError, IndexError) as error:
        raise InvalidModel(source, "must be a SentencePiece model", str(error)) from error
    if len(pieces) > _MAX_PIECES:
        raise InvalidModel(source, f"must have at most {_MAX_PIECES} pieces")
    special = frozenset(index for index, (_, kind) in enumerate(pieces) if kind in _NO_TEXT)
    return Vocabulary(tuple(piece for piece, _ in pieces), special)


def _pieces(data: bytes) -> Iterator[tuple[str, int]]:
    """Yield text and type of each piece.

    Raises:
        ValueError, IndexError: no such message.
    """
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            held = dict(_fields(value))
            text, kind = held.get(1, b""), held.get(3, 1)
            if not isinstance(text, bytes) or not isinstance(kind, int):
                raise ValueError("a piece has no text or type")
            yield text.decode(), kind


def checked(vocabulary: Vocabulary, num_labels: int, source: str) -> Vocabulary:
    """Return the vocabulary.

    Raises:
        InvalidModel: it has more or fewer tokens than the network.
    """
    if len(vocabulary) != num_labels:
        raise InvalidModel(
            f"{source}: vocabulary", f"must have {num_labels} tokens", len(vocabulary)
        )
    return vocabulary


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message.

    Raises:
        ValueError, IndexError: no message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in {_FIXED32, _FIXED64}:
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > len(data):
            raise ValueError("it breaks off")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 the last byte of a number
            return value, at
        if shift > 63:  # noqa: PLR2004 64 bits
            raise ValueError("a number of more than 64 bits")
