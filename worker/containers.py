"""Audio files as blocks of float32 frames behind one reader; the libraries' errors end here.

libsndfile reads what counts its frames exactly (WAV, RF64, W64, AIFF, AU, CAF, FLAC and older
kin). FFmpeg, inside PyAV, reads the rest: MP3, Ogg, AAC, MP4, WebM, Matroska, sound of videos.

MP3 and Ogg go to FFmpeg although libsndfile knows them: soundfile seeks after every block, which
gives wrong MP3 samples (libsndfile 1.2.2: by up to 0.8 of full scale), and libsndfile stops at
the end of the first stream of a chained Ogg file without a word.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import av.error
import numpy as np
import soundfile
from numpy.typing import NDArray

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    OutOfMemory,
    OutOfRange,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from worker.chunks import DataChunk, find_data_chunk

Frames = NDArray[np.float32]
PathLike = str | os.PathLike[str]

# No speech is recorded below; no converter offers more.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Seventh-order ambisonics; a header with more is damaged.
MAX_CHANNELS = 64
# 4 s at 16 kHz: large enough for speed, small enough to stop close to a cap.
BLOCK_FRAMES = 65_536

# What FFmpeg may open. Playlists and the like (hls, concat) stay out: they name other files.
_FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,tta,voc,w64,wav,wv"
)
_BYTES_PER_SAMPLE = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    "PCM_16": 2,
    "PCM_24": 3,
    **dict.fromkeys(("PCM_32", "FLOAT"), 4),
    "DOUBLE": 8,
}
_AUDIO_MAGIC = {
    *(b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff", b"riff", b".snd"),
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
}
# Containers whose length is written down, not guessed from a bit rate.
_DECLARE_LENGTH = {"mov", "ogg"}
# Codec delay and padding, and rounded times, are shorter than this.
_LENGTH_SLACK_S = 0.5
# Tags behind the last frame (APE, lyrics) look like broken frames; more than this is damage.
_MAX_TAIL_BYTES = 128 * 1024
# libsndfile's public error numbers.
_SNDFILE_SYSTEM, _SNDFILE_MALFORMED = 2, 3
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
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


def open_reader(path: PathLike) -> Reader:
    """Open a recording and read its header.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        UnsupportedFormat: not a regular file, not audio, or a video without sound.
        EmptyInput: the file has no bytes.
        CorruptAudio: the header contradicts itself.
        OutOfRange: the sampling rate or the number of channels.
    """
    name = str(path)
    with translated(name, opening=True):
        file = _open_regular(name)
        try:
            reader = _choose_reader(name, file)
            _check_limits(reader.header)
        except BaseException:
            file.close()
            raise
    return reader


def _open_regular(name: str) -> io.FileIO:
    """Open a file that has an end: a pipe, a device or a folder could block or never stop."""
    if not stat.S_ISREG(Path(name).stat().st_mode):
        raise UnsupportedFormat(name, "must be a regular file")
    file = io.FileIO(os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return file
    file.close()
    if stat.S_ISREG(status.st_mode):
        raise EmptyInput(name, "must have at least one byte")
    raise UnsupportedFormat(name, "must be a regular file")


def _choose_reader(name: str, file: io.FileIO) -> Reader:
    data = find_data_chunk(file.fileno())
    start = os.pread(file.fileno(), 8, 0)
    magic = start[:4]
    if not _is_for_ffmpeg(magic, data):
        try:
            return _SndfileReader(name, file, data)
        except soundfile.LibsndfileError as error:
            if error.code in (_SNDFILE_SYSTEM, _SNDFILE_MALFORMED):
                raise
        except _NotCounted:
            pass
    try:
        return _FFmpegReader(name, file, data)
    except av.error.InvalidDataError as error:
        if magic in _AUDIO_MAGIC or start[4:] == b"ftyp":
            raise CorruptAudio(name, "must have a whole header", _reason(error)) from error
        raise


def _is_for_ffmpeg(magic: bytes, data: DataChunk | None) -> bool:
    """Say whether libsndfile would read the file wrongly or only in part."""
    is_mpeg_sync = magic[:1] == b"\xff" and magic[1:2] >= b"\xe0"
    is_unfinished_wav = data is not None and data.declared_bytes is None
    return magic == b"OggS" or magic[:3] == b"ID3" or is_mpeg_sync or is_unfinished_wav


def _check_limits(header: AudioHeader) -> None:
    if not MIN_RATE_HZ <= header.sample_rate_hz <= MAX_RATE_HZ:
        limit = f"sampling rate must be in {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
        raise OutOfRange(header.path, limit, header.sample_rate_hz)
    if not 1 <= header.channels <= MAX_CHANNELS:
        raise OutOfRange(header.path, f"channels must be in 1..{MAX_CHANNELS}", header.channels)


class _NotCounted(Exception):  # noqa: N818 - a signal between two readers, not an error
    """libsndfile opened the file but does not know its length, or is not exact about it."""


class _SndfileReader:
    """A file whose frames libsndfile counts exactly."""

    def __init__(self, name: str, file: io.FileIO, data: DataChunk | None) -> None:
        self._file = file
        self.data = data
        self._sound: Any = soundfile.SoundFile(file.fileno(), closefd=False)
        sound = self._sound
        is_counted = 0 <= sound.frames < 2**62 and sound.seekable()  # FLAC may say "unknown"
        if not is_counted or "MPEG" in sound.subtype:
            sound.close()
            raise _NotCounted
        self.header = AudioHeader(
            path=name,
            sample_rate_hz=sound.samplerate,
            channels=sound.channels,
            num_frames=self._declared_frames(),
            exact=True,
            format=f"{sound.format}/{sound.subtype}",
        )
        self.least_frames = self.header.num_frames

    def _declared_frames(self) -> int:
        """Return what the header says; libsndfile says what the file can hold."""
        width_bytes = _BYTES_PER_SAMPLE.get(self._sound.subtype)
        if self.data is None or not self.data.is_cut_off or width_bytes is None:
            return int(self._sound.frames)
        frame_bytes = width_bytes * int(self._sound.channels)
        return (self.data.declared_bytes or 0) // frame_bytes

    def blocks(self) -> Iterator[Frames]:
        num_frames = block_frames(self.header)
        with translated(self.header.path):
            while len(block := self._sound.read(num_frames, dtype="float32", always_2d=True)):
                yield block

    def close(self) -> None:
        self._sound.close()
        self._file.close()


class _FFmpegReader:
    """The first audio stream of any container that FFmpeg reads."""

    def __init__(self, name: str, file: io.FileIO, data: DataChunk | None) -> None:
        file.seek(0)
        self._file = file
        self.data = data
        self._container: Any = av.open(
            file,
            metadata_errors="replace",
            options={"format_whitelist": _FFMPEG_FORMATS, "protocol_whitelist": "none"},
        )
        try:
            self._stream = _audio_stream(name, self._container)
            codec = self._stream.codec_context
            self.header = AudioHeader(
                path=name,
                sample_rate_hz=codec.sample_rate,
                channels=codec.channels,
                num_frames=_estimated_frames(self._stream, self._container),
                exact=False,
                format=f"{self._container.format.name.split(',')[0]}/{codec.name}",
            )
            self.least_frames = self._least_frames()
        except BaseException:
            self._container.close()
            raise

    def blocks(self) -> Iterator[Frames]:
        enough = block_frames(self.header)
        waiting: list[Frames] = []
        num_waiting = 0
        for frames in self._decoded():
            waiting.append(frames)
            num_waiting += len(frames)
            if num_waiting >= enough:
                yield np.concatenate(waiting)
                waiting, num_waiting = [], 0
        if num_waiting:
            yield np.concatenate(waiting)

    def _least_frames(self) -> int | None:
        """Return the declared frames, less what codecs trim; None where length is guesswork."""
        header = self.header
        kind = header.format.partition("/")[0]
        is_declared = (
            kind in _DECLARE_LENGTH
            or (kind == "matroska" and len(self._container.streams) == 1)  # a film may be longer
            or (kind == "mp3" and self._has_mp3_length())
        )
        if header.num_frames is None or not is_declared:
            return None
        return max(0, header.num_frames - round(_LENGTH_SLACK_S * header.sample_rate_hz))

    def _has_mp3_length(self) -> bool:
        """Say whether the first MP3 frame tells the number of frames (Xing, Info or VBRI)."""
        fd = self._file.fileno()
        tag = os.pread(fd, 10, 0)
        start = 0
        if tag[:3] == b"ID3" and len(tag) == 10:  # noqa: PLR2004 - an ID3v2 header's size
            start = 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0)))
        first_frame = os.pread(fd, 256, start)
        return any(name in first_frame for name in (b"Xing", b"Info", b"VBRI"))

    def _decoded(self) -> Iterator[Frames]:
        resampler: Any = av.AudioResampler(format="fltp")
        with translated(self.header.path):
            for frame in self._frames():
                if frame.sample_rate != self.header.sample_rate_hz:
                    limit = f"must keep its sampling rate of {self.header.sample_rate_hz} Hz"
                    raise CorruptAudio(self.header.path, limit, frame.sample_rate)
                for converted in resampler.resample(frame):
                    planes: Frames = converted.to_ndarray()
                    yield planes.T

    def _frames(self) -> Iterator[Any]:
        """Decode packet by packet; only MP3 and ADTS may end in bytes that are no audio."""
        damage: av.error.InvalidDataError | None = None
        tail_bytes = 0
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError as error:
                damage = error
                tail_bytes += packet.size
                if packet.size == 0 or tail_bytes > _MAX_TAIL_BYTES:
                    raise
                continue
            if damage is not None and frames and packet.size:
                raise damage
            yield from frames
        if damage is not None and self._container.format.name not in ("mp3", "aac"):
            raise damage

    def close(self) -> None:
        self._container.close()
        self._file.close()


def block_frames(header: AudioHeader) -> int:
    """Return how many frames make a block: at most 30 s."""
    return min(BLOCK_FRAMES, 30 * header.sample_rate_hz)


def _audio_stream(name: str, container: Any) -> Any:
    if not container.streams.audio:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise UnsupportedFormat(name, "no audio stream", f"{container.format.name}: {kinds}")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise UnsupportedFormat(name, "must be of a codec that FFmpeg decodes")
    return stream


def _estimated_frames(stream: Any, container: Any) -> int | None:
    rate_hz = int(stream.codec_context.sample_rate)
    if stream.duration is not None and stream.duration > 0:
        return round(int(stream.duration) * Fraction(stream.time_base) * rate_hz)
    if container.duration is not None and container.duration > 0:
        return round(Fraction(int(container.duration), int(av.time_base)) * rate_hz)
    return None


@contextmanager
def translated(name: str, *, opening: bool = False) -> Iterator[None]:
    """Turn every exception of soundfile, PyAV and the system into one of ours."""
    try:
        yield
    except (ScribefarmError, _NotCounted):
        raise
    except Exception as exc:
        raise translate(name, exc, opening=opening) from exc


def translate(name: str, exc: Exception, *, opening: bool) -> ScribefarmError:
    """Return our error for one of soundfile, PyAV, NumPy or the system.

    `opening` tells a file that nobody recognises from one that breaks off later.
    """
    if isinstance(exc, MemoryError):
        return OutOfMemory(name, "must fit into memory")
    if isinstance(exc, OSError):
        return _translate_os_error(name, exc)
    if isinstance(exc, soundfile.LibsndfileError) and exc.code == _SNDFILE_SYSTEM:
        return SourceUnreachable(name, "must be readable", _reason(exc))
    if isinstance(exc, av.error.LookupError | av.error.PatchWelcomeError | NotImplementedError):
        return UnsupportedFormat(name, "must be of a codec that FFmpeg decodes", _reason(exc))
    if opening and not isinstance(exc, soundfile.LibsndfileError):
        return UnsupportedFormat(name, "must be audio of a known format", _reason(exc))
    return CorruptAudio(name, "must be intact audio", _reason(exc))


def _translate_os_error(name: str, exc: OSError) -> ScribefarmError:
    if exc.errno in _ABSENT:
        return SourceNotFound(name, "must exist", _reason(exc))
    if exc.errno in _FORBIDDEN:
        return SourceForbidden(name, "must be readable by the worker", _reason(exc))
    if exc.errno in _NOT_A_FILE:
        return UnsupportedFormat(name, "must be a regular file", _reason(exc))
    return SourceUnreachable(name, "must be readable", _reason(exc))


def _reason(exc: Exception) -> str:
    """Return the library's own words, without the name it knew the file by."""
    if isinstance(exc, soundfile.LibsndfileError):
        return str(exc.error_string)
    if isinstance(exc, OSError | av.error.FFmpegError) and exc.strerror:
        return str(exc.strerror)
    return str(exc) or type(exc).__name__
