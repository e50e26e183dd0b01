"""openai-whisper's files, equal to its writers byte for byte on the same segments."""

import json

from producer.formats.cues import cues
from producer.formats.options import DEFAULT_FORMAT_OPTIONS, FormatOptions
from producer.formats.timestamps import format_timestamp
from producer.result import Segment, Transcript

# Of a segment; ours has more.
_WHISPER_KEYS = {
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
    "words",
}


def to_txt(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return one line of text a segment."""
    return "".join(f"{segment.text.strip()}\n" for segment in transcript.segments)


def to_srt(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return SubRip subtitles."""
    return "".join(
        f"{number}\n{_srt_time(cue.start_s)} --> {_srt_time(cue.end_s)}\n{cue.text()}\n\n"
        for number, cue in enumerate(cues(transcript, options), start=1)
    )


def to_vtt(transcript: Transcript, options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return WebVTT subtitles."""
    written = (
        f"{format_timestamp(cue.start_s)} --> {format_timestamp(cue.end_s)}\n{cue.text()}\n\n"
        for cue in cues(transcript, options)
    )
    return "WEBVTT\n\n" + "".join(written)


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


def _srt_time(seconds: float) -> str:
    return format_timestamp(seconds, hours=True, decimal_marker=",")


def _whisper_segment(segment: Segment) -> dict[str, object]:
    """Return the reference's keys in the reference's order; `words` only where asked for."""
    return segment.model_dump(include=_WHISPER_KEYS, exclude_none=True)
