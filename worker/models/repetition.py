"""Whether a text says the same over and over, as a decoder does that is lost."""

import re
import zlib

# A phrase of up to 8 words, four times in a row, is a decoder that repeats itself for ever.
LONGEST_PHRASE = 8
TIMES_IN_A_ROW = 4
# Thai and Lao, kana, Chinese characters: scripts without spaces, in which a character is a word.
_SPACELESS = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W{_SPACELESS}]+")


def compression_ratio(text: str) -> float:
    """Return UTF-8 bytes over zlib bytes: text that repeats itself is above 2.4."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded))


def repeats_a_phrase(text: str) -> bool:
    """Return whether a phrase of up to 8 words is said four times in a row.

    Case and punctuation do not count; where a script has no spaces, a character is a word.
    """
    words = _WORD.findall(text.lower())
    for size in range(1, LONGEST_PHRASE + 1):
        run = 0
        for here, there in zip(words, words[size:], strict=False):
            run = run + 1 if here == there else 0
            if run == size * (TIMES_IN_A_ROW - 1):
                return True
    return False
