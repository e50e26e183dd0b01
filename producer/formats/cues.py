"""Subtitles of a transcript: which words stand when, whatever file they are written into."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from producer.formats.layout import laid_out
from producer.formats.options import FormatOptions
from producer.formats.timestamps import to_ms
from producer.formats.voices import by_voice
from producer.formats.whisper_subtitles import whisper_subtitles
from producer.result import Segment, Transcript, Word

# Space, a word, a line end.
_WORD = re.compile(r"(\s*)(.*)(\n?)")


@dataclass(frozen=True)
class Subtitle:
    """Words that stand together.

    Attributes:
        words: Their texts give the subtitle's, spaces and line breaks included.
        has_times: Whether the times of its words are the model's.
        is_laid_out: Whether it was made within limits of ours, not as openai-whisper makes it.
    """

    start_s: float
    end_s: float
    words: list[Word]
    has_times: bool
    is_laid_out: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the text in pieces."""
        return tuple(word.word for word in self.words)


@dataclass(frozen=True)
class Cue:
    """One entry of a file of subtitles.

    Attributes:
        texts: Pieces of its text, spaces and line breaks included.
        spoken: Index of the piece to underline.
        keeps_arrows: Whether an arrow, which could end a line of times in srt and vtt, stays in the
            text. It does in words with times as openai-whisper writes them.
    """

    start_s: float
    end_s: float
    texts: tuple[str, ...]
    spoken: int | None = None
    keeps_arrows: bool = False

    def text(
        self,
        escape: Callable[[str], str] = str,
        underline: tuple[str, str] = ("<u>", "</u>"),
    ) -> str:
        """Return the text, each piece of it escaped, with tags around the spoken word."""
        if self.spoken is None:
            return escape(self._without_arrows("".join(self.texts)))
        pieces = (
            _underlined(text, escape, underline) if index == self.spoken else escape(text)
            for index, text in enumerate(self.texts)
        )
        return self._without_arrows("".join(pieces))

    def _without_arrows(self, text: str) -> str:
        return text if self.keeps_arrows else text.replace("-->", "->")


def subtitles(transcript: Transcript, options: FormatOptions) -> Iterator[Subtitle]:
    """Yield the subtitles of a transcript in order; those of two channels may overlap.

    As openai-whisper breaks them where it would; laid out where a limit needs that: limits of
    time, or limits of length without word times.
    """
    voices = by_voice(transcript.segments).values()
    every = (each for segments in voices for each in _subtitles(segments, options))
    return iter(sorted(every, key=attrgetter("start_s")) if len(voices) > 1 else every)


def _subtitles(segments: Sequence[Segment], options: FormatOptions) -> Iterator[Subtitle]:
    has_words = bool(segments) and segments[0].words is not None
    if options.has_times or (options.has_lines and not has_words):
        for start_s, end_s, words in laid_out(segments, options):
            yield Subtitle(start_s, end_s, words, has_words, is_laid_out=True)
    elif has_words:
        for words in whisper_subtitles(segments, options):
            yield Subtitle(words[0].start, words[-1].end, words, has_words)
    else:
        for segment in segments:
            text = segment.text.strip()
            whole = Word(word=text, start=segment.start, end=segment.end, probability=0.0)
            yield Subtitle(segment.start, segment.end, [whole], has_words)


def cues(transcript: Transcript, options: FormatOptions) -> Iterator[Cue]:
    """Yield the entries of a file; with `highlight_words` one for each word that has times."""
    for subtitle in subtitles(transcript, options):
        keeps_arrows = subtitle.has_times and not subtitle.is_laid_out
        times: Iterable[tuple[float, float, int | None]] = [
            (subtitle.start_s, subtitle.end_s, None)
        ]
        if options.highlight_words and subtitle.has_times:
            times = _highlighted(subtitle)
        for start_s, end_s, spoken in times:
            yield Cue(start_s, end_s, subtitle.texts, spoken, keeps_arrows)


def _highlighted(subtitle: Subtitle) -> Iterator[tuple[float, float, int | None]]:
    """Yield when each word is spoken, by its index, and the gaps."""
    shown_until = subtitle.start_s
    for index, word in enumerate(subtitle.words):
        if to_ms(shown_until) != to_ms(word.start):
            yield shown_until, word.start, None
        yield word.start, word.end, index
        shown_until = word.end
    # It may stand longer than it is spoken.
    if to_ms(shown_until) < to_ms(subtitle.end_s):
        yield shown_until, subtitle.end_s, None


def _underlined(word: str, escape: Callable[[str], str], tags: tuple[str, str]) -> str:
    # Like the reference's pattern, this leaves a word with a line break in it plain.
    match = _WORD.fullmatch(word)
    if not match:
        return escape(word)
    return f"{match[1]}{tags[0]}{escape(match[2])}{tags[1]}{match[3]}"
