"""A job's glossary, applied to its transcript when all of it is decoded.

Wrong phrases are replaced where they stand as whole words, the longest first, in one pass: what was
put in is not looked at again. Each segment is looked at alone, so a phrase that goes on in the next
one stays. Tokens and figures of a segment stay those of what the model said; so do checkpoints and
the history that later windows are conditioned on, which never come here.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby

from producer.job import Options
from producer.replacements import Pairs
from producer.result import Replacement, Segment, Transcript, Word
from producer.unspaced import UNSPACED

# Jobs of a batch share their glossary.
_MOST_GLOSSARIES = 16
# Joiners within words, of Persian and of Indic scripts.
_JOINERS = "\u200c\u200d"


def with_replacements(transcript: Transcript, options: Options) -> Transcript:
    """Return the transcript with its wrong phrases replaced, and a list of what was.

    Words keep their times: those of a phrase pass to as many words one by one, else they are shared
    by characters; each has the mean probability of the words whose place it takes.
    """
    if not options.replacements:
        return transcript
    glossary = _glossary(options.replacements, ignore_case=options.replacements_ignore_case)
    segments, done = [], []
    for segment in transcript.segments:
        replaced, found = _in_segment(segment, glossary)
        segments.append(replaced)
        done += [
            Replacement(segment=segment.id, wrong=wrong, right=right, count=number)
            for (wrong, right), number in sorted(found.items())
        ]
    if not done:
        return transcript
    text = "".join(segment.text for segment in segments)
    return transcript.model_copy(update={"text": text, "segments": segments, "replacements": done})


class _Glossary:
    """Finds phrases in a text by their first words: a long glossary takes no longer than a short one.

    Args:
        pairs: Wrong phrases and right ones.
        ignore_case: Find wrong phrases in capitals too.
    """

    def __init__(self, pairs: Pairs, *, ignore_case: bool) -> None:
        # A character of words with spaces between them, marks included.
        char = rf"(?![{UNSPACED}])[\w{_JOINERS}{_marks()}]"
        self._head = re.compile(rf"(?:{char})+|\S")
        # Of the two beside a border one is none, and a mark stays with its letter.
        self._border = re.compile(rf"(?:(?<!{char})|(?!{char}))(?![{_marks()}])")
        self._key = str.casefold if ignore_case else str
        self._phrases: dict[str, list[tuple[re.Pattern[str], tuple[str, str]]]] = {}
        flags = re.IGNORECASE if ignore_case else re.NOFLAG
        for wrong, right in sorted(pairs, key=lambda pair: (-len(pair[0]), pair)):
            expression = re.compile(r"\s+".join(map(re.escape, wrong.split())), flags)
            heads = self._head.findall(wrong)
            self._phrases.setdefault(self._key(heads[0]), []).append((expression, (wrong, right)))

    def find(self, text: str) -> Iterator[tuple[int, int, tuple[str, str]]]:
        """Yield where wrong phrases begin and end, and the pair of each."""
        done = 0
        while head := self._head.search(text, done):
            end, pair = self._at(text, head)
            if pair is not None:
                yield head.start(), end, pair
            done = end

    def _at(self, text: str, head: re.Match[str]) -> tuple[int, tuple[str, str] | None]:
        for expression, pair in self._phrases.get(self._key(head[0]), ()):
            match = expression.match(text, head.start())
            if match and self._border.match(text, match.end()):
                return match.end(), pair
        return head.end(), None


_glossary = lru_cache(_MOST_GLOSSARIES)(_Glossary)


@cache
def _marks() -> str:
    """Return all combining marks, which are no letters to `re`, as ranges of an expression."""
    codes = (
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in {"Mn", "Mc", "Me"}
    )
    runs = (
        [code for _, code in run]
        for _, run in groupby(enumerate(codes), key=lambda each: each[1] - each[0])
    )
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


def _in_segment(segment: Segment, glossary: _Glossary) -> tuple[Segment, Counter[tuple[str, str]]]:
    found = Counter(pair for _, _, pair in glossary.find(segment.text))
    if not found:
        return segment, found
    changed: dict[str, object] = {"text": _in_text(segment.text, glossary)}
    if segment.words:
        changed["words"] = list(_in_words(segment.words, glossary))
    return segment.model_copy(update=changed), found


def _in_text(text: str, glossary: _Glossary) -> str:
    parts, done = [], 0
    for start, end, (_, right) in glossary.find(text):
        parts += [text[done:start], right]
        done = end
    return "".join([*parts, text[done:]])


def _in_words(words: Sequence[Word], glossary: _Glossary) -> Iterator[Word]:
    """Yield the words of a segment, with those of wrong phrases replaced."""
    text = "".join(word.word for word in words)
    ends = list(_ends(words))
    done = 0
    for first, last, pieces in _stretches(text, ends, glossary):
        yield from words[done:first]
        yield from _in_place_of(words[first:last], pieces)
        done = last
    yield from words[done:]


def _ends(words: Sequence[Word]) -> Iterator[int]:
    end = 0
    for word in words:
        end += len(word.word)
        yield end


def _stretches(
    text: str, ends: list[int], glossary: _Glossary
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield each stretch of words that a replacement touches, and the words in its place.

    `ends` says where each word ends in the text.
    """
    stretch: list[tuple[int, int, str]] = []
    first = last = word = 0
    for start, end, (_, right) in glossary.find(text):
        while ends[word] <= start:
            word += 1
        if word >= last and stretch:
            yield first, last, _rewritten(text, ends, (first, last), stretch)
            stretch = []
        if not stretch:
            first = word
        while ends[word] < end:
            word += 1
        last = word + 1
        stretch.append((start, end, right))
    if stretch:
        yield first, last, _rewritten(text, ends, (first, last), stretch)


def _rewritten(
    text: str, ends: list[int], words: tuple[int, int], changes: list[tuple[int, int, str]]
) -> list[str]:
    """Return a stretch of words with the changes made, each with the space before it."""
    first, last = words
    done = ends[first - 1] if first else 0
    parts = []
    for start, end, right in changes:
        parts += [text[done:start], right]
        done = end
    whole = "".join([*parts, text[done : ends[last - 1]]])
    pieces = re.findall(r"\s*\S+", whole)
    pieces[-1] += whole[len(whole.rstrip()) :]
    return pieces


def _in_place_of(words: Sequence[Word], pieces: list[str]) -> Iterator[Word]:
    """Yield new words with the times of others."""
    probability = sum(word.probability for word in words) / len(words)
    if len(pieces) == len(words):
        times = [(word.start, word.end) for word in words]
    else:
        times = list(_shared(words[0].start, words[-1].end, [len(each.strip()) for each in pieces]))
    for piece, (start, end) in zip(pieces, times, strict=True):
        yield Word(word=piece, start=start, end=end, probability=probability)


def _shared(start: float, end: float, sizes: list[int]) -> Iterator[tuple[float, float]]:
    """Yield parts of a time, each in proportion to a size."""
    said, total = 0, sum(sizes)
    begin = start
    for size in sizes:
        said += size
        until = start + (end - start) * said / total
        # Rounded times stay in order too.
        until = end if said == total else min(end, max(begin, round(until, 3)))
        yield begin, until
        begin = until
