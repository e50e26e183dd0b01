"""A Parakeet model's tokens: SentencePiece pieces, some of which are no text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

WORD_START = "\u2581"  # SentencePiece's sign for the space before a word
_SPECIAL = re.compile(r"<unk>|<pad>|<s>|</s>|<\|.*\|>")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class Vocabulary:
    """Pieces by token id; the blank has none.

    Attributes:
        pieces: As SentencePiece writes them.
        marked: Ids that the tokenizer's file says are no text.
    """

    pieces: tuple[str, ...]
    marked: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def special(self) -> frozenset[int]:
        """Ids that are no text: `<unk>`, `<pad>`, `<|endoftext|>` and the like."""
        found = (index for index, piece in enumerate(self.pieces) if _SPECIAL.fullmatch(piece))
        return self.marked | frozenset(found)

    @cached_property
    def spoken(self) -> frozenset[int]:
        """Ids that have a letter or a digit: somebody takes time to say them."""
        ids = range(len(self.pieces))
        return frozenset(id_ for id_ in ids if any(map(str.isalnum, self.text([id_]))))

    @cached_property
    def word_starts(self) -> frozenset[int]:
        """Ids that begin with a space."""
        found = (id_ for id_, piece in enumerate(self.pieces) if piece.startswith(WORD_START))
        return frozenset(found)

    def text(self, tokens: Iterable[int]) -> str:
        """Return what tokens say, without special ones; a word's first piece brings its space.

        Bytes that are no UTF-8 become U+FFFD.
        """
        data = b"".join([self._bytes[token] for token in tokens])
        return data.decode(errors="replace").replace(WORD_START, " ")

    @cached_property
    def _bytes(self) -> tuple[bytes, ...]:
        """What each token adds to a text."""
        return tuple(
            b"" if token in self.special else _bytes_of(piece)
            for token, piece in enumerate(self.pieces)
        )


def _bytes_of(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.encode(errors="replace")
