"""Mel filters, which every family's features are made with."""

import functools

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000


@functools.cache
def mel_filterbank(n_fft: int, n_mels: int) -> NDArray[np.float32]:
    """Return Slaney's area-normalised triangles, shape (n_fft // 2 + 1, n_mels), float32.

    The formula is librosa.filters.mel's with its defaults (htk=False, norm="slaney"): linear
    below 1 kHz at 200/3 Hz a mel, logarithmic above with 27 mels a factor of 6.4.
    """
    bins_hz = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ)
    top_mel = 15.0 + 27.0 * np.log(SAMPLE_RATE_HZ / 2 / 1000.0) / np.log(6.4)
    mels = np.linspace(0.0, top_mel, n_mels + 2)
    is_linear = mels < 15.0  # noqa: PLR2004 the formula's own
    edges_hz = np.where(is_linear, mels * 200.0 / 3.0, 1000.0 * 6.4 ** ((mels - 15.0) / 27.0))
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    triangles *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return np.ascontiguousarray(triangles.T, dtype=np.float32)
