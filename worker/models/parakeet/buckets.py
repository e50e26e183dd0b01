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


def padded_shape(count: int, bucket: int, config: Config) -> tuple[int, int]:
    """Return the shape of so many pieces of one bucket as rows: see `write_padded`."""
    features = config.features
    num_frames = bucket * config.encoder.subsampling_factor
    return count, (num_frames - 1) * features.hop_length + features.n_fft


def write_padded(
    rows: NDArray[np.float32], *, pieces: Sequence[NDArray[np.float32]], config: Config
) -> None:
    """Write pieces as rows (B, 160 (F - 1) + 512), silent from their ends on.

    Half a transform of zeros stands before each, as frame 0 is centred on its first sample.
    """
    start = config.features.n_fft // 2
    rows[:, :start] = 0
    for row, samples in zip(rows[:, start:], pieces, strict=True):
        held = min(samples.size, row.size)
        row[:held] = samples[:held]
        row[held:] = 0


def padded(
    pieces: Sequence[NDArray[np.float32]], bucket: int, config: Config
) -> NDArray[np.float32]:
    """Return pieces of one bucket as rows: see `write_padded`."""
    rows = np.empty(padded_shape(len(pieces), bucket, config), np.float32)
    write_padded(rows, pieces=pieces, config=config)
    return rows
