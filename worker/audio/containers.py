"""Which library reads a file: opens a recording with libsndfile or with FFmpeg.

libsndfile knows the formats whose frames it counts exactly: WAV, RF64, W64, AIFF, AU, CAF, FLAC and
some older ones. FFmpeg, inside PyAV, knows the rest: MP3, Ogg, AAC, MP4, WebM, Matroska, video; and
most of the others too. Where both do, libsndfile counts the frames and, to hear what the reference
hears, FFmpeg decodes them; other resamplers take libsndfile's samples.

MP3 and Ogg go to FFmpeg although libsndfile knows them: soundfile seeks after every block, which
gives wrong MP3 samples (libsndfile 1.2.2: by up to 0.8 of full scale), and libsndfile stops at
the end of the first stream of a chained Ogg file without an error.
"""

import io
import os

import av
import av.error
import soundfile

from producer.errors import CorruptAudio, EmptyInput, OutOfRange, UnsupportedFormat
from worker.audio.data_chunk import DataChunk, find_data_chunk
from worker.audio.errors import SNDFILE_SYSTEM, reason, translated
from worker.audio.ffmpeg import FFmpegReader
from worker.audio.losses import Losses
from worker.audio.reader import AudioHeader, PathLike, Reader
from worker.audio.sndfile import NotCounted, SndfileReader
from worker.audio.source_file import SourceFile, open_source

# Speech is not recorded at lower rates, and no converter offers higher ones.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
# Seventh-order ambisonics; a header with more is damaged.
MAX_CHANNELS = 64

_AUDIO_MAGIC = {
    *(b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"caff", b"riff", b".snd"),
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
}
# libsndfile's public number for a malformed header of a known format.
_SNDFILE_MALFORMED = 3


def open_reader(
    source: PathLike | SourceFile,
    *,
    by_ffmpeg: bool = True,
    losses: Losses | None = None,
    track: int | None = None,
) -> Reader:
    """Open a recording, unless it is open, and read its header; on errors the file is closed.

    Args:
        source: The file.
        by_ffmpeg: FFmpeg decodes all that it can read; else only what libsndfile cannot.
        losses: Where damage is noted that is read around; None refuses damage.
        track: Which of several sounds is read, from 1; None takes the one that FFmpeg would.

    Raises:
        SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        UnsupportedFormat: not a regular file, not audio, or a video without sound.
        EmptyInput: the file has no bytes.
        CorruptAudio: the header contradicts itself.
        OutOfRange: the sampling rate, the number of channels, or a track that it has not.
    """
    file = source if isinstance(source, SourceFile) else open_source(source)
    with translated(file.path, opening=True):
        try:
            _check_size(file)
            if track is not None and track > 1:
                reader: Reader = FFmpegReader(file.path, file, None, losses=losses, track=track)
            else:
                reader = _choose_reader(
                    file.path, file, by_ffmpeg=by_ffmpeg, losses=losses, track=track
                )
            _check_limits(reader.header)
        except BaseException:
            file.close()
            raise
    return reader


def _check_size(file: SourceFile) -> None:
    if os.fstat(file.fileno()).st_size == 0:
        raise EmptyInput(file.path, "must have at least one byte")


def _choose_reader(
    name: str, file: io.FileIO, *, by_ffmpeg: bool, losses: Losses | None, track: int | None
) -> Reader:
    data = find_data_chunk(file.fileno())
    start = os.pread(file.fileno(), 8, 0)
    counting = None if _is_for_ffmpeg(start, data) else _counting_reader(name, file, data, losses)
    if counting is not None and not by_ffmpeg:
        return counting
    try:
        header = None if counting is None else counting.header
        reader = FFmpegReader(name, file, data, counted=header, losses=losses, track=track)
    except (av.error.FFmpegError, UnsupportedFormat) as error:
        if counting is not None:
            return SndfileReader(name, file, data, losses)
        is_damaged = isinstance(error, av.error.InvalidDataError)
        if is_damaged and (start[:4] in _AUDIO_MAGIC or start[4:] == b"ftyp"):
            raise CorruptAudio(name, "must have a whole header", reason(error)) from error
        raise
    finally:
        if counting is not None and by_ffmpeg:
            counting.release()
    return reader


def _counting_reader(
    name: str, file: io.FileIO, data: DataChunk | None, losses: Losses | None
) -> SndfileReader | None:
    """Return libsndfile's reader, if it knows the format and counts the frames."""
    try:
        return SndfileReader(name, file, data, losses)
    except soundfile.LibsndfileError as error:
        is_malformed = error.code == _SNDFILE_MALFORMED and losses is None
        if error.code == SNDFILE_SYSTEM or is_malformed:
            raise
        if error.code == _SNDFILE_MALFORMED and losses is not None:
            losses.add(0.0, None, reason(error))
    except NotCounted:
        pass
    return None


def _is_for_ffmpeg(start: bytes, data: DataChunk | None) -> bool:
    """Return whether libsndfile would read the file wrongly or only in part."""
    magic = start[:4]
    is_mpeg_sync = magic[:1] == b"\xff" and magic[1:2] >= b"\xe0"
    is_unfinished_wav = data is not None and data.declared_bytes is None
    return magic == b"OggS" or magic[:3] == b"ID3" or is_mpeg_sync or is_unfinished_wav


def _check_limits(header: AudioHeader) -> None:
    if not MIN_RATE_HZ <= header.sample_rate_hz <= MAX_RATE_HZ:
        limit = f"sampling rate must be in {MIN_RATE_HZ}..{MAX_RATE_HZ} Hz"
        raise OutOfRange(header.path, limit, header.sample_rate_hz)
    if not 1 <= header.channels <= MAX_CHANNELS:
        raise OutOfRange(header.path, f"channels must be in 1..{MAX_CHANNELS}", header.channels)
