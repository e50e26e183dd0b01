"""Transcripts as documents and tables: plain lines with times, Markdown, HTML and CSV."""

import csv
import io
from pathlib import PurePosixPath

from producer.console import format_duration, one_line
from producer.formats.options import DEFAULT_FORMAT_OPTIONS, FormatOptions
from producer.formats.timestamps import format_timestamp, timed_line
from producer.formats.voices import voice_of
from producer.markup import markdown_text, markup_text, spreadsheet_text
from producer.plain_json import as_text
from producer.result import Segment, Transcript

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1.1rem/1.6 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem;overflow-wrap:anywhere}"
    ".time{font-size:.8rem;font-variant-numeric:tabular-nums;opacity:.65;margin-inline-end:.6rem}"
    ".about,.flags{font-size:.85rem;opacity:.75}"
    ".flagged{border-inline-start:.2rem solid #b36b00;padding-inline-start:.6rem}"
)


def to_timed(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return one line a segment for people: `[00:00.000 --> 00:07.740] text`."""
    return "".join(timed_line(segment) for segment in transcript.segments)


def to_markdown(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return a Markdown document: the recording's name, and a paragraph a segment."""
    paragraphs = (
        f"\n**{_when(segment)}** {markdown_text(segment.text)}{_markdown_flags(segment)}\n"
        for segment in _spoken(transcript)
    )
    about = f"# Transcript: {markdown_text(_title(transcript))}\n\n{markdown_text(_about(transcript))}\n"
    return about + "".join(paragraphs)


def to_html(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return an HTML document that loads nothing: a paragraph a segment, doubtful ones marked."""
    title = markup_text(_title(transcript))
    return (
        f'<!DOCTYPE html>\n<html lang="{markup_text(transcript.language)}">\n<head>\n'
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1 dir="auto">{title}</h1>\n'
        f'<p class="about" lang="en">{markup_text(_about(transcript))}</p>\n'
        f"{''.join(_html_paragraph(segment) for segment in _spoken(transcript))}"
        "</body>\n</html>\n"
    )


def to_csv(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return `start`, `end` (seconds), `text` and `flags` (spaces between) as RFC 4180 has them.

    Text that a spreadsheet could take for a formula begins with an apostrophe, and so does text that
    begins with one: a reader who takes one off has the text.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("start", "end", "text", "flags"))
    for segment in transcript.segments:
        text = spreadsheet_text(" ".join(segment.text.replace("\0", "\ufffd").split()))
        flags = spreadsheet_text(" ".join(segment.flags))
        writer.writerow((f"{segment.start:.3f}", f"{segment.end:.3f}", text, flags))
    return out.getvalue()


def _title(transcript: Transcript) -> str:
    """Return the recording's file name; "recording" if it has none."""
    return one_line(as_text(PurePosixPath(transcript.source).name)) or "recording"


def _about(transcript: Transcript) -> str:
    """Return what is known of the text, in a line."""
    model, duration = transcript.model.name, format_duration(transcript.audio.duration_s)
    return f"{duration}, language {transcript.language}, by the model {model}"


def _when(segment: Segment) -> str:
    """Return when a segment begins, and whose it is."""
    return f"{format_timestamp(segment.start)} {voice_of(segment)}".rstrip()


def _spoken(transcript: Transcript) -> list[Segment]:
    return [segment for segment in transcript.segments if segment.text.strip()]


def _markdown_flags(segment: Segment) -> str:
    return f" *({markdown_text(', '.join(segment.flags))})*" if segment.flags else ""


def _html_paragraph(segment: Segment) -> str:
    time = f'<span class="time">{_when(segment)}</span>'
    text = markup_text(segment.text)
    if not segment.flags:
        return f'<p dir="auto">{time}{text}</p>\n'
    flags = markup_text(", ".join(segment.flags))
    why = f'<span class="flags" lang="en">({flags})</span>'
    return f'<p class="flagged" dir="auto">{time}{text} {why}</p>\n'
