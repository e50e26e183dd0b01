"""What each stage of a network makes of a piece, in a few numbers: to hold one machine against another."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.models.parakeet.buckets import bucket_of, padded
from worker.models.parakeet.config import Config
from worker.models.parakeet.features import log_mel


def figures(network: Any, samples: NDArray[np.float32]) -> Iterator[tuple[str, str]]:
    """Yield the name of each stage and what it makes of a piece: its shape and how it is spread.

    Args:
        network: MLX's or NumPy's.
        samples: Float32 at 16 kHz, mono, (n,); a piece of at most 30 s.
    """
    config: Config = network.config
    num_frames = config.num_frames(samples.size)
    yield "features", _summary(_features(config, samples))
    (states,) = network.states([samples])
    yield "encoder", _summary(np.array(states, np.float32)[:num_frames])
    if config.vad is not None:
        (probabilities,) = network.hear_speech([samples])()
        spoken = float((probabilities >= 0.5).mean())  # noqa: PLR2004 as it is cut
        yield "speech", f"{spoken:.0%} of {len(probabilities)} frames"


def _features(config: Config, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = padded([samples], bucket_of(config.num_frames(samples.size)), config)
    mel = log_mel(config.features, mx.array(rows), mx.array([samples.size], mx.int32))
    return np.array(mel[0, : config.num_mel_frames(samples.size)])


def _summary(array: NDArray[np.float32]) -> str:
    shape = " x ".join(map(str, array.shape))
    return (
        f"{shape}, mean {array.mean():.4f}, deviation {array.std():.4f},"
        f" from {array.min():.3f} to {array.max():.3f}"
    )
