"""From the labels of a piece to words with times, and from words to segments."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from producer.result import Segment, Word
from worker.models.parakeet.cut import Piece
from worker.models.parakeet.requests import Label
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.repetition import compression_ratio, repeats_a_phrase

# A segment ends with a sentence, as in NeMo's own segment timestamps (`segment_seperators`), and at
# a pause that is longer than this: nobody reads a subtitle through it.
LONG_PAUSE_S = 1.0
_SENTENCE_ENDS = (".", "?", "!", "\u2026")
_CLOSING = "\"'\u201d\u2019\u00bb)]"
# What is less likely on average is worth a look; text that compresses better repeats itself. Both
# are openai-whisper's defaults, so that flags of the two families mean the same.
UNLIKELY_LOGPROB = -1.0
REPETITIVE_RATIO = 2.4
_DIGITS = 3


class TimedWord(NamedTuple):
    """A word of a piece.

    Attributes:
        text: With the space before it.
        start: Seconds from the start of the recording.
        end: Seconds from the start of the recording.
        tokens: Ids.
        logprobs: Of each token.
    """

    text: str
    start: float
    end: float
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def probability(self) -> float:
        """Of the least likely of its tokens, as NeMo's word confidence (`aggregation: min`)."""
        return min(1.0, math.exp(min(self.logprobs)))

    @property
    def ends_sentence(self) -> bool:
        """Return whether it ends as a sentence does."""
        return self.text.rstrip(_CLOSING).endswith(_SENTENCE_ENDS)


def words_of(
    labels: Sequence[Label], vocabulary: Vocabulary, piece: Piece, frame_s: float
) -> list[TimedWord]:
    """Return the words of a piece in order; times lie within it and never go back.

    Punctuation belongs to the word before it and does not make it longer. Special pieces and words
    of nothing but space are left out.

    Args:
        labels: What was found in the piece.
        vocabulary: The model's.
        piece: Where it lies.
        frame_s: Seconds of a frame of the encoder.
    """
    words: list[TimedWord] = []
    for group in _groups(labels, vocabulary):
        tokens = tuple([label.token for label in group])
        text = vocabulary.text(tokens)
        if not text.strip():
            continue
        spoken = [label for label in group if label.token in vocabulary.spoken] or group
        first, last = spoken[0], spoken[-1]
        earliest = words[-1].end if words else piece.start_s
        start = _between(earliest, piece.start_s + frame_s * first.frame, piece.end_s)
        end = piece.start_s + frame_s * (last.frame + max(1, last.duration))
        words.append(
            TimedWord(
                # Pieces are transcribed apart: the first word of each stands alone.
                text=text if words else f" {text.lstrip()}",
                start=start,
                end=_between(start, end, piece.end_s),
                tokens=tokens,
                logprobs=tuple([label.logprob for label in group]),
            )
        )
    return words


def segments_of(words: Sequence[TimedWord], piece: Piece, *, with_words: bool) -> Iterator[Segment]:
    """Yield the segments of a piece, not numbered yet.

    Args:
        words: Of the piece.
        piece: Where it lies.
        with_words: Whether segments carry their words.
    """
    ratio = compression_ratio("".join(word.text for word in words)) if words else 0.0
    for sentence in _sentences(words):
        logprobs = [each for word in sentence for each in word.logprobs]
        text = "".join(word.text for word in sentence)
        avg_logprob = sum(logprobs) / len(logprobs)
        reasons = {
            "repetition": ratio > REPETITIVE_RATIO or repeats_a_phrase(text),
            "low_confidence": avg_logprob < UNLIKELY_LOGPROB,
        }
        yield Segment(
            id=0,
            seek=round(100 * piece.start_s),
            start=round(sentence[0].start, _DIGITS),
            end=round(sentence[-1].end, _DIGITS),
            text=text,
            tokens=[token for word in sentence for token in word.tokens],
            avg_logprob=avg_logprob,
            compression_ratio=ratio,
            confidence=sum(word.probability for word in sentence) / len(sentence),
            flags=[reason for reason, holds in reasons.items() if holds],
            words=[_word(word) for word in sentence] if with_words else None,
        )


def _groups(labels: Sequence[Label], vocabulary: Vocabulary) -> Iterator[list[Label]]:
    """Yield the labels of each word; special ones are in none."""
    special, word_starts = vocabulary.special, vocabulary.word_starts
    group: list[Label] = []
    for label in labels:
        if label.token in special:
            continue
        if group and label.token in word_starts:
            yield group
            group = []
        group.append(label)
    if group:
        yield group


def _between(least: float, value: float, most: float) -> float:
    return min(max(least, value), most)


def _sentences(words: Sequence[TimedWord]) -> Iterator[list[TimedWord]]:
    """Cut words where a sentence ends, or at a long pause.

    A full stop before a small letter is an abbreviation's.
    """
    if not words:
        return
    sentence = [words[0]]
    for before, word in pairwise(words):
        goes_on = word.text.lstrip()[:1].islower()
        ends = before.ends_sentence and not goes_on
        if ends or word.start - before.end > LONG_PAUSE_S:
            yield sentence
            sentence = []
        sentence.append(word)
    yield sentence


def _word(word: TimedWord) -> Word:
    return Word(
        word=word.text,
        start=round(word.start, _DIGITS),
        end=round(word.end, _DIGITS),
        probability=word.probability,
    )
