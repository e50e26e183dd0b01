"""openai-whisper's way to break words with times into subtitles."""

from collections.abc import Iterator, Sequence

from producer.formats.options import FormatOptions
from producer.result import Segment, Word

# The reference's stand-ins for "no limit": characters in a line, words in a line.
_NO_WIDTH = 1000
_NO_WORDS = 1000

# A silence longer than this starts a new subtitle where segments are not kept together.
LONG_PAUSE_S = 3.0


def whisper_subtitles(segments: Sequence[Segment], options: FormatOptions) -> Iterator[list[Word]]:
    """Yield the words of each subtitle; a word that starts a line carries the line break."""
    keep_segments = options.max_line_count is None or options.max_line_width is None
    max_width = options.max_line_width or _NO_WIDTH
    max_lines = options.max_line_count
    subtitle: list[Word] = []
    line_length, num_lines, previous_start = 0, 1, _first_start(segments)
    for word, opens_chunk in _words(segments, options.max_words_per_line or _NO_WORDS):
        pause = not keep_segments and word.start - previous_start > LONG_PAUSE_S
        border = keep_segments and opens_chunk and bool(subtitle)
        fits = line_length + len(word.word) <= max_width
        previous_start = word.start
        if line_length > 0 and fits and not pause and not border:
            line_length += len(word.word)
            subtitle.append(word)
            continue
        text = word.word.strip()
        full = max_lines is not None and (pause or num_lines >= max_lines)
        if border or (subtitle and full):
            yield subtitle
            subtitle, num_lines = [], 1
        elif line_length > 0:
            num_lines += 1
            text = "\n" + text
        line_length = len(text.strip())
        subtitle.append(word.model_copy(update={"word": text}))
    if subtitle:
        yield subtitle


def _words(segments: Sequence[Segment], chunk_size: int) -> Iterator[tuple[Word, bool]]:
    """Yield all words, and whether each opens a segment or a chunk of `chunk_size` in it."""
    for segment in segments:
        for index, word in enumerate(_words_of(segment)):
            yield word, index % chunk_size == 0


def _words_of(segment: Segment) -> list[Word]:
    """Return a segment's words; one that was not aligned counts as a single long word."""
    if segment.words is not None:
        return segment.words
    return [Word(word=segment.text, start=segment.start, end=segment.end, probability=0.0)]


def _first_start(segments: Sequence[Segment]) -> float:
    words = (word.start for segment in segments for word in _words_of(segment))
    return next(words, segments[0].start)
