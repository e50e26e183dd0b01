"""What reading a recording means: a header, blocks of frames, and errors of our own.

Exceptions of soundfile, PyAV and the system end in `translated`; nothing of theirs passes it.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import av.error
import numpy as np
import soundfile
from numpy.typing import NDArray

from producer.errors import (
    CorruptAudio,
    OutOfMemory,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from worker.audio.data_chunk import DataChunk

Frames = NDArray[np.float32]
PathLike = str | os.PathLike[str]

# 4 s at 16 kHz: large enough for speed, small enough to stop close to a cap.
BLOCK_FRAMES = 65_536
SNDFILE_SYSTEM = 2  # libsndfile's number for an error of the operating system
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NOT_A_FILE = {errno.EISDIR, errno.ENXIO, errno.ENODEV}


@dataclass(frozen=True)
class AudioHeader:
    """What a recording says about itself before any sample is decoded.

    Attributes:
        num_frames: Samples a channel at the source rate; None where nothing tells.
        exact: The format counts its frames; otherwise `num_frames` is an estimate.
        format: Container and codec, like "WAV/PCM_16" or "ogg/opus".
    """

    path: str
    sample_rate_hz: int
    channels: int
    num_frames: int | None
    exact: bool
    format: str

    @property
    def duration_s(self) -> float | None:
        """Seconds at the source rate; an estimate unless `exact`."""
        return None if self.num_frames is None else self.num_frames / self.sample_rate_hz


class Reader(Protocol):
    """An open recording."""

    header: AudioHeader
    data: DataChunk | None
    least_frames: int | None
    """Fewer decoded frames than this mean a recording with a part missing."""

    def blocks(self) -> Iterator[Frames]:
        """Yield (frames, channels) blocks of one frame or more, at the source rate."""

    def close(self) -> None:
        """Close the file; closing twice is harmless."""


def block_frames(header: AudioHeader) -> int:
    """Return how many frames make a block: at most 30 s."""
    return min(BLOCK_FRAMES, 30 * header.sample_rate_hz)


@contextmanager
def translated(name: str, *, opening: bool = False) -> Iterator[None]:
    """Turn every exception of soundfile, PyAV and the system into one of ours."""
    try:
        yield
    except ScribefarmError:
        raise
    except Exception as exc:
        raise translate(name, exc, opening=opening) from exc


def translate(name: str, exc: Exception, *, opening: bool) -> ScribefarmError:
    """Return our error for one of soundfile, PyAV, NumPy or the system.

    `opening` tells a file that nobody recognises from one that breaks off later.
    """
    if isinstance(exc, av.error.FFmpegError):  # before the built-in errors that it also poses as
        return _translate_ffmpeg_error(name, exc, opening=opening)
    if isinstance(exc, MemoryError):
        return OutOfMemory(name, "must fit into memory")
    if isinstance(exc, OSError):
        return _translate_os_error(name, exc)
    if isinstance(exc, soundfile.LibsndfileError) and exc.code == SNDFILE_SYSTEM:
        return SourceUnreachable(name, "must be readable", reason(exc))
    return CorruptAudio(name, "must be intact audio", reason(exc))


def _translate_ffmpeg_error(
    name: str, exc: av.error.FFmpegError, *, opening: bool
) -> ScribefarmError:
    """FFmpeg reads through our own file, so its EPERM or ENOMEM speaks of content, not of disks."""
    if isinstance(exc, av.error.LookupError | av.error.PatchWelcomeError | NotImplementedError):
        return UnsupportedFormat(name, "must be of a codec that FFmpeg decodes", reason(exc))
    if opening:
        return UnsupportedFormat(name, "must be audio of a known format", reason(exc))
    return CorruptAudio(name, "must be intact audio", reason(exc))


def _translate_os_error(name: str, exc: OSError) -> ScribefarmError:
    if exc.errno in _ABSENT:
        return SourceNotFound(name, "must exist", reason(exc))
    if exc.errno in _FORBIDDEN:
        return SourceForbidden(name, "must be readable by the worker", reason(exc))
    if exc.errno in _NOT_A_FILE:
        return UnsupportedFormat(name, "must be a regular file", reason(exc))
    if exc.errno == errno.EINVAL:  # a damaged header sent FFmpeg to a negative offset
        return CorruptAudio(name, "must be intact audio", reason(exc))
    return SourceUnreachable(name, "must be readable", reason(exc))


def reason(exc: Exception) -> str:
    """Return the library's own words, without the name it knew the file by."""
    if isinstance(exc, soundfile.LibsndfileError):
        return str(exc.error_string)
    if isinstance(exc, OSError | av.error.FFmpegError) and exc.strerror:
        return str(exc.strerror)
    return str(exc) or type(exc).__name__
