"""The sounds that a file holds side by side: one of them, all mixed, or each for itself."""

import io
import os
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np

from producer.errors import OutOfRange
from producer.job import AudioOptions
from producer.result import Lost
from worker.audio.lanes import MAX_LANES, Lane, side_by_side
from worker.audio.reader import AudioHeader, Block, Samples
from worker.audio.recording import Recording, open_recording
from worker.audio.source_file import SourceFile


class _Beside(SourceFile):
    """The same open file, read from a place of its own."""

    def __init__(self, file: SourceFile) -> None:
        super().__init__(file.path, os.dup(file.fileno()))
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, os.fstat(self.fileno()).st_size - self._at)
        piece = os.pread(self.fileno(), left if size is None or size < 0 else size, self._at)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (os.fstat(self.fileno()).st_size if start is None else start)
        return self._at

    def tell(self) -> int:
        return self._at


class Tracks:
    """The tracks of one file, read at the same time: a `Recording`, but for its blocks.

    A block has the shape (samples,) of all mixed with equal weights, or (samples, tracks + 1) where
    they are split, the mix in the last column. A track that ends before others goes on as silence.
    Iterating raises as iterating a `Recording` does.
    """

    def __init__(self, recordings: list[Recording], *, is_split: bool) -> None:
        self._recordings = recordings
        self._is_split = is_split
        self.header: AudioHeader = recordings[0].header

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far, of the longest track."""
        return max(each.duration_s for each in self._recordings)

    @property
    def has_cancelling_channels(self) -> bool:
        """Return whether the channels of any track cancelled each other out so far."""
        return any(each.has_cancelling_channels for each in self._recordings)

    @property
    def losses(self) -> list[Lost]:
        """Return what damage took so far in any track."""
        return [lost for each in self._recordings for lost in each.losses]

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Return what is transcribed apart; empty for tracks that are mixed."""
        if not self._is_split:
            return ()
        return tuple(Lane(column, column + 1) for column in range(len(self._recordings)))

    @property
    def is_one_sound(self) -> bool:
        """Return False: tracks that were kept apart are not the same."""
        return False

    def __iter__(self) -> Iterator[Samples]:
        with self:
            for columns in side_by_side([iter(each) for each in self._recordings]):
                mix: Samples = columns.mean(axis=1, dtype=np.float32)
                yield np.column_stack([columns, mix]) if self._is_split else mix

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        for each in self._recordings:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_tracks(
    file: SourceFile,
    asked: AudioOptions,
    *,
    max_seconds: float,
    auto_resample: bool = True,
    watch: Callable[[Block], None] | None = None,
) -> Recording | Tracks:
    """Open a recording as its job wants it read; closed with what is returned.

    Raises:
        OutOfRange: also too many tracks to read at once.
        ScribefarmError: as `open_recording` raises.
    """

    def opened(file: SourceFile, track: int | None) -> Recording:
        return open_recording(
            file,
            max_seconds=max_seconds,
            auto_resample=auto_resample,
            resampler=asked.resampler,
            is_salvaged=asked.damaged == "salvage",
            channels=asked.channels,
            track=track,
            watch=watch,
        )

    if asked.tracks == "first" or isinstance(asked.tracks, int):
        return opened(file, None if asked.tracks == "first" else asked.tracks)
    recordings = [opened(file, 1)]
    try:
        num_tracks = _checked_number(recordings[0].header)
        recordings += [opened(_Beside(file), track) for track in range(2, num_tracks + 1)]
    except BaseException:
        for each in recordings:
            each.close()
        raise
    if num_tracks == 1:
        return recordings[0]
    return Tracks(recordings, is_split=asked.tracks == "split")


def _checked_number(header: AudioHeader) -> int:
    if header.num_tracks > MAX_LANES:
        limit = f"must have at most {MAX_LANES} tracks to read them at once"
        raise OutOfRange(header.path, limit, header.num_tracks)
    return header.num_tracks
