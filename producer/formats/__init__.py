"""Output formats: pure functions from a transcript to the text of a file.

txt, srt, vtt, tsv and json equal openai-whisper's writers byte for byte on the same segments, so
tools made for its files read ours. A new format is one function, and one line in `FORMATS`. Text of
a transcript is never markup, a formula or a time in any format that has such.
"""

from collections.abc import Callable

from producer.formats.annotation import to_eaf, to_textgrid
from producer.formats.documents import to_csv, to_html, to_markdown, to_timed
from producer.formats.options import (
    DEFAULT_FORMAT_OPTIONS,
    GUIDELINES,
    FormatOptions,
    guideline_options,
)
from producer.formats.subtitles import to_ass, to_lrc, to_ttml
from producer.formats.timestamps import format_timestamp, timed_line
from producer.formats.whisper import to_json, to_srt, to_tsv, to_txt, to_vtt
from producer.result import Transcript

__all__ = [
    "DEFAULT_FORMAT_OPTIONS",
    "FORMATS",
    "GUIDELINES",
    "Format",
    "FormatOptions",
    "file_extension",
    "format_timestamp",
    "guideline_options",
    "timed_line",
    "to_ass",
    "to_csv",
    "to_eaf",
    "to_html",
    "to_json",
    "to_lrc",
    "to_markdown",
    "to_srt",
    "to_textgrid",
    "to_timed",
    "to_tsv",
    "to_ttml",
    "to_txt",
    "to_vtt",
]

Format = Callable[[Transcript, FormatOptions], str]

FORMATS: dict[str, Format] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
    "timed": to_timed,
    "ass": to_ass,
    "ttml": to_ttml,
    "lrc": to_lrc,
    "md": to_markdown,
    "html": to_html,
    "csv": to_csv,
    "eaf": to_eaf,
    "textgrid": to_textgrid,
}

# Where it is not the format's name.
_EXTENSIONS = {"timed": "timed.txt", "textgrid": "TextGrid"}


def file_extension(format_name: str) -> str:
    """Return the extension, without the dot, of files in a format of `FORMATS`."""
    return _EXTENSIONS.get(format_name, format_name)
