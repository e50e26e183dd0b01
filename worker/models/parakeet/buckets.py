"""Pieces of few lengths: each is padded to a bucket of its own, whatever it is computed with.

So a piece gives the same numbers alone and among others, and a device sees few shapes.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from producer.errors import OutOfRange
from worker.models.mel import SAMPLE_RATE_HZ
from worker.models.parakeet.config import Config

# Encoder frames; 376 are the 30 s of the longest piece, longer ones go in steps.
BUCKETS = (8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 376)
LONG_STEP = 128


def bucket_of(num_frames: int) -> int:
    """Return the encoder frames that a piece of so many is padded to."""
    index = bisect_left(BUCKETS, num_frames)
    return BUCKETS[index] if index < len(BUCKETS) else -(-num_frames // LONG_STEP) * LONG_STEP


def grouped(pieces: Sequence[NDArray[np.float32]], config: Config) -> dict[int, list[int]]:
    """Return which pieces go into each bucket, by their index.

    Raises:
        OutOfRange: a piece is longer than the model's positions.
    """
    groups: defaultdict[int, list[int]] = defaultdict(list)
    limit = config.encoder.max_frames
    for index, samples in enumerate(pieces):
        num_frames = config.num_frames(samples.size)
        if num_frames > limit:
            seconds = limit * config.frame_seconds
            value = samples.size / SAMPLE_RATE_HZ
            raise OutOfRange("piece", f"must be at most {seconds:.0f} s", value)
        groups[bucket_of(num_frames)].append(index)
    return dict(groups)


class Padded:
    """Pieces of one bucket as rows, in memory that is used again and again."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._memory = np.zeros(0, np.float32)

    def __call__(self, pieces: Sequence[NDArray[np.float32]], bucket: int) -> NDArray[np.float32]:
        """Return the pieces, silent from their ends on; good until the next call.

        Half a transform of zeros stands before each, as frame 0 is centred on its first sample.
        """
        features = self._config.features
        length = (bucket * self._config.encoder.subsampling_factor - 1) * features.hop_length
        length, start = length + features.n_fft, features.n_fft // 2
        if self._memory.size < len(pieces) * length:
            self._memory = np.empty(len(pieces) * length, np.float32)
        rows = self._memory[: len(pieces) * length].reshape(len(pieces), length)
        rows[:, :start] = 0
        for row, samples in zip(rows, pieces, strict=True):
            held = min(samples.size, length - start)
            row[start : start + held] = samples[:held]
            row[start + held :] = 0
        return rows
