"""Reads recordings with FFmpeg, through PyAV: any container, its best sound, nothing else."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Discard, Disposition
from numpy.typing import NDArray

from producer.errors import OutOfRange, UnsupportedFormat
from worker.audio.data_chunk import DataChunk
from worker.audio.errors import translated
from worker.audio.facts import kept_tags
from worker.audio.losses import Losses
from worker.audio.packets import Decoding
from worker.audio.reader import AudioHeader, Block, block_frames, layout_of
from worker.audio.swresample import MAX_PLANES

# What FFmpeg may open. Playlists (hls, concat) are excluded: they name other files.
_FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,gsm,gxf,iff,"
    "ircam,loas,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,ogg,oma,pvf,qcp,rm,shn,"
    "sox,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
)
# Containers that store their length; for others FFmpeg estimates it from the bit rate.
_DECLARE_LENGTH = {"mov", "ogg"}
# Of PCM, whose packets may be cut anywhere: by default 4 KiB, and each costs a call.
_MAX_PACKET_BYTES = "65536"
# Codec delay, padding and rounding of times add up to less than this.
_LENGTH_SLACK_S = 0.5
# NumPy takes all of FFmpeg's sample types but 64-bit integers, which become doubles.
_DIRECT = {"u8", "s16", "s32", "flt", "dbl"}


class FFmpegReader:
    """The sound of any container that FFmpeg reads: the stream that its command would take.

    Raises:
        UnsupportedFormat: no audio stream, or one of an unknown codec.
        av.error.FFmpegError: FFmpeg cannot open the file, which is not closed.
    """

    def __init__(
        self,
        name: str,
        file: io.FileIO,
        data: DataChunk | None,
        *,
        counted: AudioHeader | None = None,
        losses: Losses | None = None,
        track: int | None = None,
    ) -> None:
        """Open the container.

        Args:
            name: The recording, for errors.
            file: Where it is read from.
            data: Where the samples lie, if known.
            counted: What libsndfile says of the file; its count of frames is exact.
            losses: See `Reader`.
            track: Which of several sounds is read, from 1; None takes the one that FFmpeg would.
        """
        file.seek(0)
        file.name = f"recording{_ending(name)}"  # which tells FFmpeg some formats apart
        self._file = file
        self.data = data
        self.losses = losses
        self._container: Any = av.open(
            file,
            metadata_errors="replace",
            options={
                "format_whitelist": _FFMPEG_FORMATS,
                "protocol_whitelist": "none",
                "max_size": _MAX_PACKET_BYTES,
            },
        )
        try:
            self._stream = _audio_stream(name, self._container, track)
            self.header = replace(
                counted or self._own_header(name),
                num_tracks=len(self._container.streams.audio),
                tags=kept_tags(self._container.metadata, self._stream.metadata),
            )
            self.least_frames = counted.num_frames if counted else self._least_frames()
        except BaseException:
            self._container.close()
            raise

    def _own_header(self, name: str) -> AudioHeader:
        codec = self._stream.codec_context
        return AudioHeader(
            path=name,
            sample_rate_hz=codec.sample_rate,
            channels=codec.channels,
            num_frames=_estimated_frames(self._stream, self._container),
            exact=False,
            format=f"{self._container.format.name.split(',')[0]}/{codec.name}",
        )

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

    def blocks(self) -> Iterator[Block]:
        """Yield blocks, each joined from FFmpeg's shorter frames; see `Reader.blocks`."""
        enough = block_frames(self.header)
        kind: tuple[Any, int, str] | None = None
        waiting: list[NDArray[Any]] = []
        num_waiting = 0
        for samples, rate_hz, layout in self._pieces():
            if kind != (samples.dtype, rate_hz, layout) or num_waiting >= enough:
                if kind is not None:
                    yield Block(np.concatenate(waiting), *kind[1:])
                kind, waiting, num_waiting = (samples.dtype, rate_hz, layout), [], 0
            waiting.append(samples)
            num_waiting += len(samples)
        if kind is not None:
            yield Block(np.concatenate(waiting), *kind[1:])

    def _pieces(self) -> Iterator[tuple[NDArray[Any], int, str]]:
        """Yield the samples (frames, channels), the rate and the layout of each decoded frame."""
        to_direct: dict[str, Any] = {}
        decoding = Decoding(self._container, self._stream, self.header, self.losses)
        with translated(self.header.path):
            for frame in decoding.frames():
                layout, channels = _layout_name(frame.layout), frame.layout.nb_channels
                form = frame.format
                packed = form.packed.name
                if packed in _DIRECT and (form.is_packed or channels <= MAX_PLANES):
                    direct = (frame,)
                else:
                    packed = packed if packed in _DIRECT else "dbl"
                    key = f"{form.name} {frame.sample_rate} {layout}"
                    if key not in to_direct:
                        to_direct[key] = av.AudioResampler(format=packed)
                    direct = to_direct[key].resample(frame)
                for each in direct:
                    samples = each.to_ndarray()
                    is_planar = each.format.is_planar
                    yield (
                        samples.T if is_planar else samples.reshape(-1, channels),
                        each.sample_rate,
                        layout,
                    )

    def close(self) -> None:
        """Close the container and the file."""
        self._container.close()
        self._file.close()


def _ending(name: str) -> str:
    ending = PurePath(name).suffix
    return ending if ending[1:].isascii() and ending[1:].isalnum() else ""


def _audio_stream(name: str, container: Any, track: int | None) -> Any:
    """Return the asked sound, or what ffmpeg takes if it is not told: default, then most channels."""
    if not container.streams.audio:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise UnsupportedFormat(name, "no audio stream", f"{container.format.name}: {kinds}")
    num_tracks = len(container.streams.audio)
    if track is not None and track > num_tracks:
        raise OutOfRange(name, f"must have the track that audio.tracks names, {track}", num_tracks)
    tracks = container.streams.audio
    best = max(tracks, key=_preference) if track is None else tracks[track - 1]
    if best.codec_context is None:
        raise UnsupportedFormat(name, "must be of a codec that FFmpeg decodes")
    for stream in container.streams:
        if stream is not best:
            stream.discard = Discard.all
    return best


def _preference(stream: Any) -> tuple[bool, int]:
    channels = stream.codec_context.channels if stream.codec_context is not None else 0
    return bool(stream.disposition & Disposition.default), channels


def _layout_name(layout: Any) -> str:
    """Return a layout's name; one that names no places becomes the usual one, as in FFmpeg."""
    name: str = layout.name
    return layout_of(layout.nb_channels) if name.endswith(" channels") else name


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
