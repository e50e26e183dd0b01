"""Log-mel features in NumPy; see `features.py`."""

import numpy as np

from worker.models.mel import mel_filterbank
from worker.models.numpy_math import FloatArray, Threads, blocks
from worker.models.parakeet.config import FeatureConfig
from worker.models.parakeet.features import (
    DEVIATION_GUARD,
    LOG_GUARD,
    hann_window,
)

# Frames that a thread transforms at once: 0.5 MB, near a core.
FRAMES_PER_BLOCK = 250


def log_mel(config: FeatureConfig, pieces: list[FloatArray], threads: Threads) -> list[FloatArray]:
    """Return the features (frames, n_mels) of pieces, each without padding."""
    made = [
        np.empty((samples.size // config.hop_length, config.n_mels), np.float32)
        for samples in pieces
    ]
    padded = [_emphasized(config, samples) for samples in pieces]

    def compute(index: int, part: slice) -> None:
        made[index][part] = _energies(config, padded[index], part)

    def normalize(index: int) -> None:
        made[index] = _normalized(config, made[index])

    parts = [
        (index, part)
        for index, mels in enumerate(made)
        for part in blocks(len(mels), FRAMES_PER_BLOCK)
    ]
    threads.run(compute, parts)
    threads.run(normalize, [(index,) for index in range(len(made))])
    return made


def _emphasized(config: FeatureConfig, samples: FloatArray) -> FloatArray:
    """Return samples with the ones before taken off, between two halves of a transform of zeros."""
    around = config.n_fft // 2
    padded = np.zeros(samples.size + config.n_fft, np.float32)
    padded[around : around + samples.size] = samples
    padded[around + 1 : around + samples.size] -= np.float32(config.preemphasis) * samples[:-1]
    return padded


def _energies(config: FeatureConfig, padded: FloatArray, part: slice) -> FloatArray:
    every = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]
    spectrum = np.fft.rfft(every[part] * hann_window(config.n_fft, config.window_length))
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    mels = power @ mel_filterbank(config.n_fft, config.n_mels)
    result: FloatArray = np.log(mels + np.float32(LOG_GUARD))
    return result


def _normalized(config: FeatureConfig, mels: FloatArray) -> FloatArray:
    if not config.normalizes or not len(mels):
        return mels
    mels = mels - mels[0]
    apart = mels - mels.mean(axis=0)
    deviation = np.sqrt(np.square(apart).sum(axis=0) / np.float32(max(len(mels) - 1, 1)))
    normalized: FloatArray = apart / (deviation + np.float32(DEVIATION_GUARD))
    return normalized
