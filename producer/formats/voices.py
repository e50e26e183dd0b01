"""Transcripts of several channels or tracks: whose a segment is, and the segments of each."""

from collections.abc import Sequence

from producer.result import Segment


def voice_of(segment: Segment) -> str:
    """Return `channel 2` or `track 1` for a segment that was transcribed apart, else nothing."""
    if segment.channel is not None:
        return f"channel {segment.channel}"
    return "" if segment.track is None else f"track {segment.track}"


def by_voice(segments: Sequence[Segment]) -> dict[str, list[Segment]]:
    """Return the segments by `voice_of`, in the order of the first of each; {"": []} for none."""
    voices: dict[str, list[Segment]] = {}
    for segment in segments:
        voices.setdefault(voice_of(segment), []).append(segment)
    return voices or {"": []}
