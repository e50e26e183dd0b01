"""Reads with FFmpeg, through PyAV, the recordings that libsndfile cannot read, or not whole."""

import io
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from producer.errors import CorruptAudio, UnsupportedFormat
from worker.audio.data_chunk import DataChunk
from worker.audio.errors import translated
from worker.audio.reader import AudioHeader, Frames, block_frames

# What FFmpeg may open. Playlists (hls, concat) are excluded: they name other files.
_FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,loas,matroska,mov,"
    "mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,tta,voc,w64,wav,wv"
)
# Containers that store their length; for others FFmpeg estimates it from the bit rate.
_DECLARE_LENGTH = {"mov", "ogg"}
# PyAV 18 reads beyond its memory for planar frames of more channels. Interleaved frames, which
# are safe, take longer.
_MAX_PLANES = 8
# Codec delay, padding and rounding of times add up to less than this.
_LENGTH_SLACK_S = 0.5
# Tags after the last frame (APE, lyrics) look like broken frames; more bytes are damage.
_MAX_TAIL_BYTES = 128 * 1024


class FFmpegReader:
    """The first audio stream of any container that FFmpeg reads.

    Raises:
        UnsupportedFormat: no audio stream, or one of an unknown codec.
        av.error.FFmpegError: FFmpeg cannot open the file, which is not closed.
    """

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
        """Yield (frames, channels) blocks, each joined from FFmpeg's shorter frames.

        See `Reader.blocks`.
        """
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
        """Return the declared frames less `_LENGTH_SLACK_S`; None where they are estimated."""
        header = self.header
        kind = header.format.partition("/")[0]
        declared = None
        # A Matroska file has one length for all its streams; a film's may be longer than its sound.
        if kind in _DECLARE_LENGTH or (kind == "matroska" and len(self._container.streams) == 1):
            declared = header.num_frames
        elif kind == "mp3":
            declared = _mp3_frames(self._file.fileno(), header.sample_rate_hz)
        if declared is None:
            return None
        return max(0, declared - round(_LENGTH_SLACK_S * header.sample_rate_hz))

    def _decoded(self) -> Iterator[Frames]:
        """Yield FFmpeg's frames as (frames, channels) of float32."""
        header = self.header
        is_planar = header.channels <= _MAX_PLANES
        resampler: Any = av.AudioResampler(format="fltp" if is_planar else "flt")
        with translated(header.path):
            for frame in self._audio_frames():
                found = (frame.sample_rate, frame.layout.nb_channels)
                if found != (header.sample_rate_hz, header.channels):
                    limit = f"must stay at {header.sample_rate_hz} Hz, {header.channels} channels"
                    raise CorruptAudio(header.path, limit, f"{found[0]} Hz, {found[1]} channels")
                for converted in resampler.resample(frame):
                    frames: Frames = converted.to_ndarray()
                    yield frames.T if is_planar else frames.reshape(-1, header.channels)

    def _audio_frames(self) -> Iterator[Any]:
        """Decode packet by packet; only MP3 and ADTS may end in bytes that are not audio."""
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
        """Close the container and the file."""
        self._container.close()
        self._file.close()


def _audio_stream(name: str, container: Any) -> Any:
    if not container.streams.audio:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise UnsupportedFormat(name, "no audio stream", f"{container.format.name}: {kinds}")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise UnsupportedFormat(name, "must be of a codec that FFmpeg decodes")
    return stream


def _estimated_frames(stream: Any, container: Any) -> int | None:
    """Return the length that the stream, or else the container, gives in its own time base."""
    rate_hz = int(stream.codec_context.sample_rate)
    if stream.duration is not None and stream.duration > 0:
        return round(int(stream.duration) * Fraction(stream.time_base) * rate_hz)
    if container.duration is not None and container.duration > 0:
        return round(Fraction(int(container.duration), int(av.time_base)) * rate_hz)
    return None


def _mp3_frames(fd: int, rate_hz: int) -> int | None:
    """Return the samples per channel that the first MP3 frame declares (Xing or Info tag)."""
    tag = os.pread(fd, 10, 0)
    start = 0
    if tag[:3] == b"ID3" and len(tag) == 10:  # noqa: PLR2004 - the size of an ID3v2 header
        shifts = (21, 14, 7, 0)
        start = 10 + sum((byte & 127) << by for byte, by in zip(tag[6:], shifts, strict=True))
    first = os.pread(fd, 256, start)
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if at < 0 or not first[at + 7] & 1:
        return None
    per_frame = 1152 if rate_hz >= 32_000 else 576  # noqa: PLR2004 - MPEG-1, or MPEG-2 and 2.5
    return int.from_bytes(first[at + 8 : at + 12], "big") * per_frame
