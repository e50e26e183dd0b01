"""An open recording as the formats' readers present it: a header, then blocks of frames."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from worker.audio.data_chunk import DataChunk
from worker.audio.losses import Losses

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


# One step of the integers that files hold, as a part of full scale; other types become one of these.
_STEPS = {"int16": np.float32(2.0**-15), "int32": np.float32(2.0**-31)}
_LAYOUTS = dict(enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), 1))


@dataclass(frozen=True)
class Block:
    """Consecutive frames of a recording, in the sample type of its file.

    Attributes:
        samples: (frames, channels), in either order of memory: uint8, int16, int32, float32 or
            float64.
        rate_hz: Sampling rate; may change within a recording, as may all but the samples' order.
        layout: FFmpeg's name of the places of the channels: "mono", "stereo", "5.1".
    """

    samples: NDArray[Any]
    rate_hz: int
    layout: str

    @cached_property
    def floats(self) -> Frames:
        """The samples as float32, full scale at 1."""
        name = self.samples.dtype.name
        if name == "uint8":
            return (self.samples.astype(np.float32) - np.float32(128)) * np.float32(2**-7)
        step = _STEPS.get(name)
        if step is None:
            return self.samples.astype(np.float32, copy=False)
        floats: Frames = np.multiply(self.samples, step, dtype=np.float32, casting="unsafe")
        return floats

    @property
    def is_float(self) -> bool:
        """Return whether samples may be beyond full scale, infinite or no numbers."""
        return bool(self.samples.dtype.kind == "f")


class Reader(Protocol):
    """An open recording, whatever library decodes it.

    Attributes:
        header: What the recording declares.
        data: Where its samples lie; None for formats that declare no such size.
        least_frames: With fewer decoded frames than this a part of the recording is missing;
            None if the declared length is too vague to tell.
        losses: Where damage is noted that is read around; None refuses damage.
    """

    header: AudioHeader
    data: DataChunk | None
    least_frames: int | None
    losses: Losses | None

    def blocks(self) -> Iterator[Block]:
        """Yield blocks of one frame or more, at the source rate.

        Raises:
            CorruptAudio: damage, unless there is a place to note it.
            SourceUnreachable: the disk or share stopped answering.
        """

    def close(self) -> None:
        """Close the file; closing twice is harmless."""


def block_frames(header: AudioHeader) -> int:
    """Return the size of a block in frames: `BLOCK_FRAMES`, but at most 30 s at low rates."""
    return min(BLOCK_FRAMES, 30 * header.sample_rate_hz)


def layout_of(channels: int) -> str:
    """Return FFmpeg's usual layout of so many channels, for files that name no places."""
    return _LAYOUTS.get(channels, f"{channels} channels")
