"""Output formats: pure functions from a transcript to the text of a file.

txt, srt, vtt, tsv and json equal openai-whisper's writers byte for byte on the same segments, so
tools made for its files read ours. A new format is one function here and one line in `FORMATS`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.errors import OutOfRange
from producer.job import invalid_options
from producer.result import Segment, Transcript, Word

# The reference's stand-ins for "no limit": characters in a line, words in a line.
_NO_WIDTH = 1000
_NO_WORDS = 1000

# Space, a word, a line end.
_WORD = re.compile(r"(\s*)(.*)(\n?)")

# A silence longer than this starts a new subtitle where segments are not kept together.
_LONG_PAUSE_S = 3.0


class FormatOptions(BaseModel):
    """How subtitles are broken; all but the default needs a transcript with word times.

    With both a width and a line count, subtitles flow over segment borders; otherwise each
    segment starts a subtitle of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_line_width: int | None = Field(None, ge=1, description="Characters in a line.")
    max_line_count: int | None = Field(None, ge=1, description="Lines in a subtitle.")
    max_words_per_line: int | None = Field(
        None, ge=1, description="Words in a subtitle; without effect if width and count are set."
    )
    highlight_words: bool = Field(False, description="Underline each word while it is spoken.")

    @classmethod
    def parse(cls, **fields: object) -> Self:
        """Return validated options.

        Raises:
            InvalidOptions: a misspelt key or a value out of bounds.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise invalid_options("format", error) from error


DEFAULT_FORMAT_OPTIONS = FormatOptions()

Format = Callable[[Transcript, FormatOptions], str]


class _Cue(NamedTuple):
    """One subtitle: times in seconds, text with its line breaks."""

    start_s: float
    end_s: float
    text: str


def format_timestamp(seconds: float, *, hours: bool = False, decimal_marker: str = ".") -> str:
    """Return `MM:SS.mmm`, or `HH:MM:SS.mmm` from one hour on or with `hours`.

    Raises:
        OutOfRange: the time is negative or not finite.
    """
    if not 0 <= seconds < float("inf"):
        raise OutOfRange("timestamp", "a time is a finite number of seconds from 0 on", seconds)
    minutes, milliseconds = divmod(round(seconds * 1000.0), 60_000)
    num_hours, minutes = divmod(minutes, 60)
    whole, milliseconds = divmod(milliseconds, 1000)
    prefix = f"{num_hours:02d}:" if hours or num_hours else ""
    return f"{prefix}{minutes:02d}:{whole:02d}{decimal_marker}{milliseconds:03d}"


def to_txt(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return one line of text a segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_timed(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return one line a segment for people: `[00:00.000 --> 00:07.740] text`."""
    return "".join(timed_line(segment) for segment in transcript.segments)


def timed_line(segment: Segment) -> str:
    """Return a segment as one line with its times, newline included."""
    start, end = format_timestamp(segment.start), format_timestamp(segment.end)
    return f"[{start} --> {end}] {segment.text.strip()}\n"


def to_srt(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return SubRip subtitles."""
    return "".join(
        f"{number}\n{_srt_time(cue.start_s)} --> {_srt_time(cue.end_s)}\n{cue.text}\n\n"
        for number, cue in enumerate(_cues(transcript, options), start=1)
    )


def to_vtt(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return WebVTT subtitles."""
    cues = (
        f"{format_timestamp(cue.start_s)} --> {format_timestamp(cue.end_s)}\n{cue.text}\n\n"
        for cue in _cues(transcript, options)
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_tsv(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return `start`, `end` (whole milliseconds) and `text` in columns separated by tabs."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t"
        f"{segment.text.strip().replace(chr(9), ' ')}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def to_json(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return openai-whisper's result: `text`, `segments` and `language`, without a line end."""
    return json.dumps(
        {
            "text": transcript.text,
            "segments": [_whisper_segment(segment) for segment in transcript.segments],
            "language": transcript.language,
        }
    )


FORMATS: dict[str, Format] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "timed": to_timed,
}


def file_extension(format_name: str) -> str:
    """Return the extension, without the dot, of files in a format of `FORMATS`."""
    return "timed.txt" if format_name == "timed" else format_name


def _srt_time(seconds: float) -> str:
    return format_timestamp(seconds, hours=True, decimal_marker=",")


def _whisper_segment(segment: Segment) -> dict[str, object]:
    """Return the reference's keys in the reference's order; `words` only where asked for."""
    return segment.model_dump(exclude={"flags"}, exclude_none=True)


def _cues(transcript: Transcript, options: FormatOptions) -> Iterator[_Cue]:
    segments = transcript.segments
    if not segments or segments[0].words is None:
        for segment in segments:
            # The arrow would end the line of times in srt and vtt.
            text = segment.text.strip().replace("-->", "->")
            yield _Cue(segment.start, segment.end, text)
        return
    for subtitle in _subtitles(segments, options):
        if options.highlight_words:
            yield from _highlighted(subtitle)
        else:
            text = "".join(word.word for word in subtitle)
            yield _Cue(subtitle[0].start, subtitle[-1].end, text)


def _subtitles(segments: Sequence[Segment], options: FormatOptions) -> Iterator[list[Word]]:
    """Yield the words of each subtitle; a word that starts a line carries the line break."""
    keep_segments = options.max_line_count is None or options.max_line_width is None
    max_width = options.max_line_width or _NO_WIDTH
    max_lines = options.max_line_count
    subtitle: list[Word] = []
    line_length, num_lines, previous_start = 0, 1, _first_start(segments)
    for word, opens_chunk in _words(segments, options.max_words_per_line or _NO_WORDS):
        pause = not keep_segments and word.start - previous_start > _LONG_PAUSE_S
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


def _highlighted(subtitle: list[Word]) -> Iterator[_Cue]:
    """Yield the subtitle once a word, with that word underlined, and plain in the gaps."""
    plain = "".join(word.word for word in subtitle)
    shown_until = subtitle[0].start
    for index, word in enumerate(subtitle):
        if format_timestamp(shown_until) != format_timestamp(word.start):
            yield _Cue(shown_until, word.start, plain)
        before = "".join(other.word for other in subtitle[:index])
        after = "".join(other.word for other in subtitle[index + 1 :])
        yield _Cue(word.start, word.end, before + _underlined(word.word) + after)
        shown_until = word.end


def _underlined(word: str) -> str:
    # Like the reference's pattern, this leaves a word with a line break in it plain.
    match = _WORD.fullmatch(word)
    return f"{match[1]}<u>{match[2]}</u>{match[3]}" if match else word
