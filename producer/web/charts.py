"""Pictures as numbers: where bars and marks stand, for the templates to draw as SVG.

All of them are drawn into boxes that stretch, so their texts stand beside them, in HTML.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from producer.result import Transcript
from producer.throughput import SLOT_S, Slot

WIDTH, HEIGHT = 1000.0, 100.0
_LEAST_HOURS = 3
_NUM_LABELS = 6
# More marks than a picture has dots say nothing more.
_MAX_MARKS = 2000


class Bar(NamedTuple):
    """A bar of the throughput: where it stands, and what it says."""

    x: float
    width: float
    height: float
    failed_height: float
    slot: Slot


class Throughput(NamedTuple):
    """The throughput of the last hours.

    Attributes:
        most: Audio hours an hour at the top.
        labels: Times of day along the bottom, at equal distances.
        hourly: (begin, audio hours, succeeded, failed) of each hour, for a table.
    """

    bars: list[Bar]
    most: float
    labels: list[str]
    hourly: list[tuple[str, float, int, int]]
    most_failed: int


def throughput(slots: Sequence[Slot]) -> Throughput | None:
    """Return the picture, from where anything was done; None if nothing was."""
    worked = [index for index, slot in enumerate(slots) if slot.audio_s or slot.failed]
    if not worked:
        return None
    least = _LEAST_HOURS * 3600 // SLOT_S
    first = max(0, min(worked[0] - 1, len(slots) - least))
    shown = list(slots[first:])
    most = _round_up(max(slot.audio_s for slot in shown) / SLOT_S)
    most_failed = max(slot.failed for slot in shown)
    width = WIDTH / len(shown)
    bars = [
        Bar(
            round(index * width, 2),
            round(width * 0.86, 2),
            round(HEIGHT * slot.audio_s / SLOT_S / most, 2) if most else 0.0,
            round(HEIGHT * slot.failed / most_failed, 2) if most_failed else 0.0,
            slot,
        )
        for index, slot in enumerate(shown)
        if slot.audio_s or slot.failed
    ]
    end_s = shown[-1].start_s + SLOT_S
    step = (end_s - shown[0].start_s) / (_NUM_LABELS - 1)
    labels = [_time_of_day(shown[0].start_s + step * number) for number in range(_NUM_LABELS)]
    return Throughput(bars, most, labels, _hourly(shown), most_failed)


def _hourly(slots: Sequence[Slot]) -> list[tuple[str, float, int, int]]:
    hours: dict[int, list[Slot]] = {}
    for slot in slots:
        hours.setdefault(int(slot.start_s // 3600), []).append(slot)
    return [
        (
            _time_of_day(hour * 3600),
            sum(slot.audio_s for slot in of_hour) / 3600,
            sum(slot.succeeded for slot in of_hour),
            sum(slot.failed for slot in of_hour),
        )
        for hour, of_hour in hours.items()
    ]


def _time_of_day(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().strftime("%H:%M")


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, ... from a value on."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value * 0.999)


def line(values: Sequence[float]) -> str:
    """Return the points of a small line, as an SVG polyline has them; the newest at the right."""
    most = max(values, default=0.0) or 1.0
    step = WIDTH / max(1, len(values) - 1)
    return " ".join(
        f"{index * step:.1f},{HEIGHT - 0.94 * HEIGHT * value / most - 3:.1f}"
        for index, value in enumerate(values)
    )


class Mark(NamedTuple):
    """A stretch of a recording on its timeline."""

    x: float
    width: float
    lane: int
    is_flagged: bool


def timeline(transcript: Transcript, lanes: Sequence[str]) -> list[Mark]:
    """Return where in a recording there is text, and which of it is flagged."""
    total_s = transcript.audio.duration_s
    if not (total_s > 0 and math.isfinite(total_s)):
        return []
    step = max(1, -(-len(transcript.segments) // _MAX_MARKS))
    marks = []
    for first in range(0, len(transcript.segments), step):
        segments = transcript.segments[first : first + step]
        start, end = _part(segments[0].start, total_s), _part(segments[-1].end, total_s)
        lane = lanes.index(lane_of(segments[0].channel, segments[0].track)) if lanes else 0
        is_flagged = any(segment.flags for segment in segments)
        marks.append(Mark(round(start, 2), round(max(1.0, end - start), 2), lane, is_flagged))
    return marks


def lane_of(channel: int | None, track: int | None) -> str:
    """Return the name of a segment's lane; "" if its recording has none."""
    parts = [("track", track), ("channel", channel)]
    return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


def _part(seconds: float, total_s: float) -> float:
    return WIDTH * min(1.0, max(0.0, seconds / total_s)) if math.isfinite(seconds) else 0.0
