"""Log-mel features of pieces, equal to NeMo's and transformers' within float rounding.

A piece is an utterance of its own: pre-emphasis starts at its first sample, what lies around it is
silence, and each mel bin is normalised over its frames.
"""

import functools

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.device.backend import uploaded
from worker.models.mel import mel_filterbank
from worker.models.parakeet.config import FeatureConfig

# Added to energies before the logarithm, and to deviations (NeMo, `FilterbankFeatures`).
LOG_GUARD = 2.0**-24
DEVIATION_GUARD = 1e-5


@functools.cache
def hann_window(n_fft: int, window_length: int) -> NDArray[np.float32]:
    """Return the symmetric Hann window in the middle of a transform, (n_fft,), float32."""
    before = (n_fft - window_length) // 2
    window = np.zeros(n_fft, np.float32)
    window[before : before + window_length] = np.hanning(window_length)
    return window


def log_mel(config: FeatureConfig, rows: mx.array, num_samples: mx.array) -> mx.array:
    """Return features of padded pieces, computed by MLX.

    Args:
        config: The model's.
        rows: Float32, as `buckets.write_padded` makes them, (B, 160 (F - 1) + 512).
        num_samples: Samples of each piece, (B,) int32.

    Returns:
        Float32 (B, F, n_mels), 0 from the end of each piece on.
    """
    position = mx.arange(rows.shape[1]) - config.n_fft // 2
    before = mx.pad(rows[:, :-1], [(0, 0), (1, 0)])
    is_within = position < num_samples[:, None]
    rows = mx.where(is_within, rows - config.preemphasis * before, 0.0)
    count = 1 + (rows.shape[1] - config.n_fft) // config.hop_length
    shape = (rows.shape[0], count, config.n_fft)
    frames = mx.as_strided(rows, shape, (rows.shape[1], config.hop_length, 1))
    spectrum = mx.fft.rfft(frames * uploaded(hann_window, config.n_fft, config.window_length))
    power = mx.square(mx.real(spectrum)) + mx.square(mx.imag(spectrum))
    mels = mx.log(power @ uploaded(mel_filterbank, config.n_fft, config.n_mels) + LOG_GUARD)
    num_frames = (num_samples // config.hop_length)[:, None, None]
    is_frame = mx.arange(count)[:, None] < num_frames
    return mx.where(is_frame, _normalized(mels, is_frame, num_frames, config), 0.0)


def _normalized(
    mels: mx.array, is_frame: mx.array, num_frames: mx.array, config: FeatureConfig
) -> mx.array:
    """Return each bin with mean 0 and deviation 1 (N - 1) over its piece's frames."""
    if not config.normalizes:
        return mels
    # From the first frame on: else float32's mean of digital silence is not what was summed, and the
    # guard makes a third of a deviation of the difference.
    mels = mels - mels[:, :1]
    mean = mx.where(is_frame, mels, 0.0).sum(axis=1, keepdims=True) / mx.maximum(num_frames, 1)
    apart = mels - mean
    squares = mx.where(is_frame, mx.square(apart), 0.0).sum(axis=1, keepdims=True)
    # One frame alone has no deviation: NeMo takes 0 for it.
    deviation = mx.sqrt(squares / mx.maximum(num_frames - 1, 1))
    return apart / (deviation + DEVIATION_GUARD)
