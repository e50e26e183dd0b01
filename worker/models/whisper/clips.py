"""Which stretches of a recording are transcribed."""

from producer.job import Options
from worker.models.whisper.word_timing import FRAMES_PER_SECOND


def clips(options: Options, content_frames: int) -> list[tuple[int, int]]:
    """Return the stretches to transcribe, as mel frames within the recording."""
    points = [round(point * FRAMES_PER_SECOND) for point in options.clip_timestamps] or [0]
    if len(points) % 2:
        points.append(content_frames)
    return [
        (start, min(end, content_frames))
        for start, end in zip(points[::2], points[1::2], strict=True)
    ]
