"""Reads with libsndfile the recordings whose frames it counts exactly."""

import io
from collections.abc import Iterator
from typing import Any

import soundfile

from producer.errors import CorruptAudio
from worker.audio.data_chunk import DataChunk
from worker.audio.errors import translated
from worker.audio.facts import kept_tags
from worker.audio.losses import Losses
from worker.audio.reader import AudioHeader, Block, block_frames, layout_of

_BYTES_PER_SAMPLE = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    "PCM_16": 2,
    "PCM_24": 3,
    **dict.fromkeys(("PCM_32", "FLOAT"), 4),
    "DOUBLE": 8,
}
# The narrowest type that holds the samples of a subtype; of others float32.
_TYPE = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"), "int16"),
    **dict.fromkeys(("PCM_24", "PCM_32"), "int32"),
    "DOUBLE": "float64",
}


class NotCounted(Exception):
    """libsndfile opened the file but does not know its length, or is not exact about it."""


class SndfileReader:
    """A file whose frames libsndfile counts exactly.

    Raises:
        NotCounted: it does not count them; the file is not closed.
        soundfile.LibsndfileError: not a format of libsndfile, or a damaged header.
    """

    def __init__(
        self, name: str, file: io.FileIO, data: DataChunk | None, losses: Losses | None = None
    ) -> None:
        file.seek(0)
        self._file = file
        self.data = data
        self.losses = losses
        self._sound: Any = soundfile.SoundFile(file.fileno(), closefd=False)
        sound = self._sound
        is_counted = 0 <= sound.frames < 2**62 and sound.seekable()  # FLAC may leave it open
        if not is_counted or "MPEG" in sound.subtype:
            sound.close()
            raise NotCounted
        self.header = AudioHeader(
            path=name,
            sample_rate_hz=sound.samplerate,
            channels=sound.channels,
            num_frames=self._declared_frames(),
            exact=True,
            format=f"{sound.format}/{sound.subtype}",
            tags=kept_tags(sound.copy_metadata()),
        )
        self.least_frames = self.header.num_frames

    def _declared_frames(self) -> int:
        """Return the frames that the header declares.

        libsndfile lowers them to what a cut-off file holds.
        """
        width_bytes = _BYTES_PER_SAMPLE.get(self._sound.subtype)
        if self.data is None or not self.data.is_cut_off or width_bytes is None:
            return int(self._sound.frames)
        frame_bytes = width_bytes * int(self._sound.channels)
        return (self.data.declared_bytes or 0) // frame_bytes

    def blocks(self) -> Iterator[Block]:
        """Yield blocks; see `Reader.blocks`."""
        num_frames, header = block_frames(self.header), self.header
        dtype = _TYPE.get(self._sound.subtype, "float32")
        layout = layout_of(header.channels)
        num_read = 0
        while True:
            try:
                with translated(header.path):
                    samples = self._sound.read(num_frames, dtype=dtype, always_2d=True)
            except CorruptAudio as error:
                if self.losses is None:
                    raise
                self.losses.add(num_read / header.sample_rate_hz, None, str(error.value))
                return
            if not len(samples):
                return
            num_read += len(samples)
            yield Block(samples, header.sample_rate_hz, layout)

    def close(self) -> None:
        """Close libsndfile's handle and the file."""
        self.release()
        self._file.close()

    def release(self) -> None:
        """Close libsndfile's handle; the file stays open."""
        self._sound.close()
