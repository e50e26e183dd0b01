"""Audio files as blocks of float32 frames behind one reader; the libraries' errors end here.

libsndfile reads what counts its frames exactly (WAV, RF64, W64, AIFF, AU, CAF, FLAC and older
kin). FFmpeg, inside PyAV, reads the rest: MP3, Ogg, AAC, MP4, WebM, Matroska, sound of videos.

MP3 and Ogg go to FFmpeg although libsndfile knows them: soundfile seeks after every block, which
gives wrong MP3 samples (libsndfile 1.2.2: by up to 0.8 of full scale), and libsndfile stops at
the end of the first stream of a chained Ogg file without a word.
"""

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import soundfile

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    OutOfRange,
    SourceNotFound,
    UnsupportedFormat,
)
from worker.audio.data_chunk import DataChunk, find_data_chunk
from worker.audio.ffmpeg import FFmpegReader
from worker.audio.reader import (
    SNDFILE_SYSTEM,
    AudioHeader,
    Frames,
    PathLike,
    Reader,
    block_frames,
    reason,
    translated,
)

# No speech is recorded below; no converter offers more.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Seventh-order ambisonics; a header with more is damaged.
MAX_CHANNELS = 64

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
# libsndfile's public number for a header it knows and cannot make sense of.
_SNDFILE_MALFORMED = 3


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
    try:
        is_regular = stat.S_ISREG(Path(name).stat().st_mode)
    except ValueError as exc:  # a NUL or a lone surrogate: no file has such a name
        raise SourceNotFound(name, "must be a possible file name") from exc
    if not is_regular:
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
            if error.code in (SNDFILE_SYSTEM, _SNDFILE_MALFORMED):
                raise
        except _NotCounted:
            pass
    try:
        return FFmpegReader(name, file, data)
    except av.error.InvalidDataError as error:
        if magic in _AUDIO_MAGIC or start[4:] == b"ftyp":
            raise CorruptAudio(name, "must have a whole header", reason(error)) from error
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


class _NotCounted(Exception):
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
