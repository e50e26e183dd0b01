"""An open recording as the formats' readers present it: a header, then blocks of frames."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.audio.data_chunk import DataChunk

# (frames, channels) at the source rate, and (samples,) of one channel.
Frames = NDArray[np.float32]
Samples = NDArray[np.float32]
PathLike = str | os.PathLike[str]

# 4 s at 16 kHz: large enough for speed, small enough to stop close to a cap.
BLOCK_FRAMES = 65_536


@dataclass(frozen=True)
class AudioHeader:
    """What a recording declares before any sample is decoded.

    Attributes:
        path: The file.
        sample_rate_hz: Source rate.
        channels: Number of channels, 1 or more.
        num_frames: Samples per channel at the source rate; None if the file declares none.
        exact: The format counts its frames; otherwise `num_frames` is an estimate.
        format: Container and codec, like "WAV/PCM_16" or "ogg/opus".
        num_tracks: Sounds that the file holds side by side; one of them is read.
        tags: What it says of itself, see `worker.audio.facts.kept_tags`.
    """

    path: str
    sample_rate_hz: int
    channels: int
    num_frames: int | None
    exact: bool
    format: str
    num_tracks: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> float | None:
        """Seconds at the source rate; an estimate unless `exact`."""
        return None if self.num_frames is None else self.num_frames / self.sample_rate_hz


class Reader(Protocol):
    """An open recording, whatever library decodes it.

    Attributes:
        header: What the recording declares.
        data: Where its samples lie; None for formats that declare no such size.
        least_frames: With fewer decoded frames than this a part of the recording is missing;
            None if the declared length is too vague to tell.
    """

    header: AudioHeader
    data: DataChunk | None
    least_frames: int | None

    def blocks(self) -> Iterator[Frames]:
        """Yield (frames, channels) blocks of one frame or more, at the source rate.

        Raises:
            CorruptAudio: damage, or a change of rate or channels.
            SourceUnreachable: the disk or share stopped answering.
        """

    def close(self) -> None:
        """Close the file; closing twice is harmless."""


def block_frames(header: AudioHeader) -> int:
    """Return the size of a block in frames: `BLOCK_FRAMES`, but at most 30 s at low rates."""
    return min(BLOCK_FRAMES, 30 * header.sample_rate_hz)
