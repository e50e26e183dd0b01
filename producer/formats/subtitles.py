"""Subtitles and lyrics for players: ASS, TTML and LRC."""

import re

from producer.formats.cues import Subtitle, cues, subtitles
from producer.formats.options import DEFAULT_FORMAT_OPTIONS, FormatOptions
from producer.formats.timestamps import format_timestamp, to_ms
from producer.markup import markup_text
from producer.result import Transcript

# White at the bottom with a black outline; sung words turn from yellow to white.
_ASS_HEAD = """[Script Info]
ScriptType: v4.00+
WrapStyle: 0
ScaledBorderAndShadow: yes
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,60,&H00FFFFFF,&H0000FFFF,&H00000000,&H80000000,\
0,0,0,0,100,100,0,0,1,3,1,2,60,60,60,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""

_TTML_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:tts="http://www.w3.org/ns/ttml#styling" xml:lang="{}">
  <head>
    <layout>
      <region xml:id="bottom" tts:origin="10% 10%" tts:extent="80% 80%" tts:displayAlign="after" \
tts:textAlign="center"/>
    </layout>
  </head>
  <body region="bottom">
    <div>
"""
_TTML_UNDERLINE = ('<span tts:textDecoration="underline">', "</span>")

# Nobody sees it, and no reader looks through it.
_WORD_JOINER = "\u2060"
# Looks of braces that no reader of ASS takes for tags: backslashes do not protect them everywhere.
_ASS_BRACES = str.maketrans({"{": "\uff5b", "}": "\uff5d", "\\": f"\\{_WORD_JOINER}"})
# What a reader of LRC would take for a time at a line's beginning, or before a word.
_LRC_TIME = re.compile(r"[\[<](?=\d)")


def to_ass(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return Advanced SubStation Alpha; with `highlight_words`, karaoke by the times of words.

    Braces in the text become full-width ones, since players take braces for tags.
    """
    lines = (
        f"Dialogue: 0,{_ass_time(subtitle.start_s)},{_ass_time(subtitle.end_s)},Default,,0,0,0,,"
        f"{_karaoke(subtitle) if _is_sung(subtitle, options) else _ass_text(subtitle.texts)}\n"
        for subtitle in subtitles(transcript, options)
    )
    return _ASS_HEAD + "".join(lines)


def to_ttml(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return Timed Text Markup Language 1, as IMSC and EBU-TT readers take it."""
    paragraphs = (
        f'      <p begin="{_ttml_time(cue.start_s)}" end="{_ttml_time(cue.end_s)}">'
        f"{cue.text(_ttml_text, _TTML_UNDERLINE)}</p>\n"
        for cue in cues(transcript, options)
    )
    head = _TTML_HEAD.format(markup_text(transcript.language))
    return f"{head}{''.join(paragraphs)}    </div>\n  </body>\n</tt>\n"


def to_lrc(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return LRC lyrics: a line with its start; with `highlight_words`, the start of each word."""
    return "".join(
        f"[{_lrc_time(subtitle.start_s)}]{_lrc_line(subtitle, options)}\n"
        for subtitle in subtitles(transcript, options)
    )


def _is_sung(subtitle: Subtitle, options: FormatOptions) -> bool:
    return options.highlight_words and subtitle.has_times


def _ass_time(seconds: float) -> str:
    minutes, centiseconds = divmod(_centiseconds(seconds), 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{centiseconds // 100:02d}.{centiseconds % 100:02d}"


def _centiseconds(seconds: float) -> int:
    return (to_ms(seconds) + 5) // 10


def _ass_text(texts: tuple[str, ...]) -> str:
    lines = "".join(texts).translate(_ASS_BRACES).splitlines()
    return "\\N".join(line.strip() for line in lines)


def _karaoke(subtitle: Subtitle) -> str:
    """Return the words, each behind the centiseconds that it is sung; pauses are sung too."""
    sung_until = _centiseconds(subtitle.start_s)
    parts = []
    for word in subtitle.words:
        start, end = _centiseconds(word.start), _centiseconds(word.end)
        if start > sung_until:
            parts.append(f"{{\\k{start - sung_until}}}")
        line_break = "\\N" if word.word.startswith("\n") else ""
        space = " " if word.word.startswith(" ") and parts else ""
        text = _ass_text((" ".join(word.word.split()),))
        parts.append(f"{line_break}{space}{{\\k{max(0, end - max(start, sung_until))}}}{text}")
        sung_until = max(sung_until, end)
    return "".join(parts)


def _ttml_time(seconds: float) -> str:
    return format_timestamp(seconds, hours=True)


def _ttml_text(text: str) -> str:
    """Return text with its line breaks and one space where words are parted."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[1:] and text[-1:].isspace() else ""
    lines = "<br/>".join(markup_text(line) for line in text.strip().splitlines())
    return ("<br/>" if text.startswith("\n") else before) + lines + after


def _lrc_time(seconds: float) -> str:
    """Return `MM:SS.cc`; LRC has no hours, so minutes go on."""
    minutes, centiseconds = divmod(_centiseconds(seconds), 6000)
    return f"{minutes:02d}:{centiseconds // 100:02d}.{centiseconds % 100:02d}"


def _lrc_line(subtitle: Subtitle, options: FormatOptions) -> str:
    if not _is_sung(subtitle, options):
        return _lrc_text("".join(subtitle.texts))
    words = (f"<{_lrc_time(word.start)}> {_lrc_text(word.word)}" for word in subtitle.words)
    return " ".join(words)


def _lrc_text(text: str) -> str:
    plain = " ".join(text.split())
    return _LRC_TIME.sub(lambda bracket: bracket[0] + _WORD_JOINER, plain)
