"""Annotations for linguists: ELAN's and Praat's files, with a tier of segments and one of words."""

from collections.abc import Iterable, Iterator
from itertools import count, pairwise
from typing import NamedTuple
from urllib.parse import quote

from producer.formats.options import DEFAULT_FORMAT_OPTIONS, FormatOptions
from producer.formats.timestamps import to_ms
from producer.formats.voices import by_voice
from producer.job import FILE_URL
from producer.markup import markup_text
from producer.plain_json import as_text
from producer.result import Transcript

_EAF_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="scribefarm" DATE="1970-01-01T00:00:00Z" FORMAT="3.0" VERSION="3.0" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
"""
_EAF_TYPE = """  <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" \
TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


class _Interval(NamedTuple):
    """A stretch of a tier, in milliseconds."""

    start: int
    end: int
    text: str


def to_eaf(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return an ELAN annotation document, linked to the recording where it is a local file.

    Its date is the epoch: the same transcript is always the same file.
    """
    tiers = _tiers(transcript)
    times = [time for tier in tiers.values() for each in tier for time in (each.start, each.end)]
    slots = "".join(
        f'    <TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{time}"/>\n'
        for number, time in enumerate(times, start=1)
    )
    numbers = count(1)
    return (
        f'{_EAF_HEAD}  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
        f"{_eaf_media(transcript.source)}  </HEADER>\n"
        f"  <TIME_ORDER>\n{slots}  </TIME_ORDER>\n"
        f"{''.join(_eaf_tier(name, tier, numbers) for name, tier in tiers.items())}{_EAF_TYPE}"
    )


def to_textgrid(transcript: Transcript, _options: FormatOptions = DEFAULT_FORMAT_OPTIONS) -> str:
    """Return a Praat TextGrid in its long text form; silence is an interval without text."""
    tiers = _tiers(transcript)
    ends = [tier[-1].end for tier in tiers.values() if tier]
    total = max(to_ms(transcript.audio.duration_s), 1, *ends)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {_praat_time(total)}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, (name, tier) in enumerate(tiers.items(), start=1):
        lines.append(f"    item [{number}]:")
        lines += _praat_tier(name, list(_with_silence(tier, total)), total)
    return "\n".join(lines) + "\n"


def _tiers(transcript: Transcript) -> dict[str, list[_Interval]]:
    """Return segments, and words if there are any, each in order and without overlap.

    Channels and tracks that were transcribed apart have tiers of their own.
    """
    tiers = {}
    for voice, segments in by_voice(transcript.segments).items():
        own = f" of {voice}" if voice else ""
        tiers[f"segments{own}"] = _tier((each.start, each.end, each.text) for each in segments)
        words = [word for segment in segments for word in segment.words or ()]
        if words:
            tiers[f"words{own}"] = _tier((word.start, word.end, word.word) for word in words)
    return tiers


def _tier(spans: Iterable[tuple[float, float, str]]) -> list[_Interval]:
    """Return the spans that have text; one ends where the next begins, and lasts 1 ms at least."""
    found = [
        _Interval(to_ms(start), to_ms(end), " ".join(text.split()))
        for start, end, text in spans
        if text.strip()
    ]
    tier: list[_Interval] = []
    for this, following in pairwise([*found, None]):
        if this is None:
            continue
        start = max(this.start, tier[-1].end if tier else 0)
        end = min(this.end, following.start) if following else this.end
        tier.append(_Interval(start, max(end, start + 1), this.text))
    return tier


def _eaf_media(source: str) -> str:
    """Return the link to a local recording, by which ELAN finds it."""
    if source.startswith("/"):
        url = FILE_URL + quote(as_text(source))
    elif source.startswith(FILE_URL):
        url = source
    else:
        return ""
    kind = "audio/x-wav" if source.lower().endswith(".wav") else "unknown"
    return f'    <MEDIA_DESCRIPTOR MEDIA_URL="{markup_text(url)}" MIME_TYPE="{kind}"/>\n'


def _eaf_tier(name: str, tier: list[_Interval], numbers: Iterator[int]) -> str:
    annotations = (
        "    <ANNOTATION>\n"
        f'      <ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" '
        f'TIME_SLOT_REF1="ts{2 * number - 1}" TIME_SLOT_REF2="ts{2 * number}">\n'
        f"        <ANNOTATION_VALUE>{markup_text(interval.text)}</ANNOTATION_VALUE>\n"
        "      </ALIGNABLE_ANNOTATION>\n"
        "    </ANNOTATION>\n"
        for interval, number in zip(tier, numbers, strict=False)
    )
    tag = f'  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}">\n'
    return f"{tag}{''.join(annotations)}  </TIER>\n"


def _with_silence(tier: list[_Interval], total: int) -> Iterator[_Interval]:
    told = 0
    for interval in tier:
        if interval.start > told:
            yield _Interval(told, interval.start, "")
        yield interval
        told = interval.end
    if told < total:
        yield _Interval(told, total, "")


def _praat_tier(name: str, intervals: list[_Interval], total: int) -> Iterator[str]:
    yield '        class = "IntervalTier"'
    yield f'        name = "{name}"'
    yield "        xmin = 0"
    yield f"        xmax = {_praat_time(total)}"
    yield f"        intervals: size = {len(intervals)}"
    for number, interval in enumerate(intervals, start=1):
        yield f"        intervals [{number}]:"
        yield f"            xmin = {_praat_time(interval.start)}"
        yield f"            xmax = {_praat_time(interval.end)}"
        yield f'            text = "{_praat_text(interval.text)}"'


def _praat_time(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def _praat_text(text: str) -> str:
    """Return text in which quotation marks are doubled, as Praat writes them."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text).replace('"', '""')
