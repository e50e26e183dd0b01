"""Decodes a stream packet by packet, and says what becomes of a damaged one."""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import av
import av.error

from worker.audio.errors import reason
from worker.audio.losses import Losses
from worker.audio.reader import AudioHeader

# Tags after the last frame (APE, lyrics) look like broken frames; more bytes are damage.
_MAX_TAIL_BYTES = 128 * 1024
_ENDS_IN_TAGS = ("mp3", "aac")
_FLAC_FRAME = rb"\xff[\xf8\xf9]"
# In one packet; what looks like more is chance.
_MAX_FLAC_FRAMES = 64
# Between joined MP3 files.
_TAGS = (b"ID3", b"TAG", b"APE")
# Decoders that follow pauses (comfort noise frames), where FFmpeg's own does not.
_WITH_PAUSES = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
# 3GPP TS 26.101 and 26.201, frame types: speech has types below this one.
_SPEECH_TYPES = {"amrnb": 8, "amrwb": 9}


class Decoding:
    """The frames of one stream, decoded once.

    Without a place for losses damage raises, as far as it can be told from tags at the end. With
    one a packet that does not decode is noted and left out, as the ffmpeg command does.
    """

    def __init__(
        self, container: Any, stream: Any, header: AudioHeader, losses: Losses | None
    ) -> None:
        self._container = container
        self._stream = stream
        self._header = header
        self._losses = losses
        self._decoder: Any = _decoder(container, stream)
        self._lenient: Any = stream.codec_context
        self._checks = self._decoder.name == "flac" and self._decoder is not self._lenient
        self._read_s = 0.0

    def frames(self) -> Iterator[Any]:
        """Yield the frames.

        Raises:
            av.error.FFmpegError: damage, without a place for losses.
        """
        frames = self._whole() if self._losses is None else self._salvaged(self._losses)
        for frame in frames:
            self._read_s += _frame_seconds(frame)
            yield frame

    def _whole(self) -> Iterator[Any]:
        """Decode; only what is counted, MP3 and ADTS may end in bytes that are not audio."""
        damage: av.error.InvalidDataError | None = None
        tail_bytes = 0
        for packet in self._container.demux(self._stream):
            try:
                frames = self._decoder.decode(packet)
            except av.error.InvalidDataError as error:
                if bytes(packet)[:3] in _TAGS:
                    continue
                damage = error
                tail_bytes += packet.size
                if packet.size == 0 or tail_bytes > _MAX_TAIL_BYTES:
                    raise
                continue
            if damage is not None and frames and packet.size:
                raise damage
            yield from frames
        if damage is not None and not self._may_end_so():
            raise damage

    def _may_end_so(self) -> bool:
        header = self._header
        if header.exact and header.num_frames is not None:
            return round(self._read_s * header.sample_rate_hz) >= header.num_frames
        return self._container.format.name in _ENDS_IN_TAGS

    def _salvaged(self, losses: Losses) -> Iterator[Any]:
        """Decode what decodes; the stream's own decoder keeps frames with a wrong checksum."""
        packets = self._container.demux(self._stream)
        decoder = self._lenient if self._checks else self._decoder
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:  # as for the command, the file ends here
                losses.add(self._read_s, None, reason(error))
                packet = None
            frames: list[Any] = []
            try:
                frames = decoder.decode(packet)
            except av.error.EOFError:  # the container's own last packet has ended it already
                return
            except av.error.FFmpegError as error:
                frames = self._beside_damage(packet) if self._checks else []
                lost_s = _seconds(packet)
                if frames and lost_s is not None:
                    lost_s = max(0.0, lost_s - sum(map(_frame_seconds, frames)))
                losses.add(self._read_s, lost_s, reason(error))
            else:
                if self._checks and packet is not None:
                    self._check(packet, frames, losses)
            yield from frames
            if packet is None:
                return

    def _beside_damage(self, packet: Any) -> list[Any]:
        """Return the FLAC frames of a packet that lie before and after its damaged ones."""
        content = bytes(packet) if packet is not None else b""
        cuts = [found.start() for found in re.finditer(_FLAC_FRAME, content)][:_MAX_FLAC_FRAMES]
        frames: list[Any] = []
        start = 0
        for at, cut in enumerate(cuts):
            for stop in (*cuts[at + 1 :], len(content)) if cut >= start else ():
                with suppress(av.error.FFmpegError):
                    frames += self._lenient.decode(av.Packet(content[cut:stop]))
                    start = stop
                    break
        return frames

    def _check(self, packet: Any, frames: list[Any], losses: Losses) -> None:
        """Note frames whose checksum is wrong: they are noise, or nearly what they were."""
        num_right = 0
        with suppress(av.error.FFmpegError):
            num_right = sum(frame.samples for frame in self._decoder.decode(packet))
        num_wrong = sum(frame.samples for frame in frames) - num_right
        if num_wrong > 0:
            wrong_s = num_wrong / frames[0].sample_rate
            losses.add(self._read_s, wrong_s, "a checksum is wrong", is_kept=True)


def _frame_seconds(frame: Any) -> float:
    return float(frame.samples / frame.sample_rate)


def _seconds(packet: Any) -> float | None:
    if packet is None or not packet.duration or packet.time_base is None:
        return None
    return float(packet.duration * packet.time_base)


def _decoder(container: Any, stream: Any) -> Any:
    """Return what decodes the stream's packets: its own decoder, but for pauses and checksums."""
    codec = stream.codec_context
    other = _WITH_PAUSES.get(codec.name)
    if other in av.codecs_available and _has_pauses(container, stream):
        decoder: Any = av.CodecContext.create(other, "r")
        decoder.sample_rate, decoder.layout = codec.sample_rate, "mono"
        return decoder
    if codec.name == "flac":  # by default FFmpeg plays a damaged frame as noise
        decoder = av.CodecContext.create("flac", "r")
        decoder.extradata = codec.extradata
        decoder.options = {"err_detect": "crccheck+explode"}
        return decoder
    return codec


def _has_pauses(container: Any, stream: Any) -> bool:
    """Return whether an AMR stream has frames other than speech; rewinds the container."""
    first_other = _SPEECH_TYPES[stream.codec_context.name]
    try:
        return any(
            packet.size and bytes(packet)[0] >> 3 & 15 >= first_other
            for packet in container.demux(stream)
        )
    finally:
        container.seek(0)
