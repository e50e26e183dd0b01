"""SentencePiece's pieces as text: what a label says, and where a word begins."""

import re
from collections.abc import Sequence

# SentencePiece's space: a piece that has it opens a word.
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Of v3: <unk>, <pad>, <|nospeech|>, <|endoftext|>, <|startoftranscript|> and the prompts of Canary.
_SPECIAL = re.compile(r"<\|.*\|>|<(unk|pad|s|/s|blank)>|\[(unk|pad)\]", re.IGNORECASE)


class Vocabulary:
    """The pieces of a model, by token id; the blank is none of them.

    Args:
        pieces: As the model's configuration lists them.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = tuple(pieces)

    def __len__(self) -> int:
        """Return the number of pieces."""
        return len(self._pieces)

    def is_special(self, token: int) -> bool:
        """Return whether a token says nothing: its piece is a control symbol, or it has none."""
        if not 0 <= token < len(self._pieces):
            return True
        return _SPECIAL.fullmatch(self._pieces[token]) is not None

    def opens_word(self, token: int) -> bool:
        """Return whether a token begins with a space."""
        return self._pieces[token].startswith(SPACE)

    def text(self, tokens: Sequence[int]) -> str:
        """Return what tokens say together, with the spaces before words.

        Bytes of a character that is in no piece are put together; those that make none become
        U+FFFD.
        """
        encoded = b"".join(self._bytes(token) for token in tokens if not self.is_special(token))
        return encoded.decode("utf-8", errors="replace")

    def _bytes(self, token: int) -> bytes:
        piece = self._pieces[token]
        if byte := _BYTE.fullmatch(piece):
            return bytes([int(byte[1], 16)])
        return piece.replace(SPACE, " ").encode("utf-8", errors="replace")
