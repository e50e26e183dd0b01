"""Log-mel energies in NumPy, shared out among threads."""

import numpy as np

from worker.models.mel import mel_filterbank
from worker.models.numpy_math import FloatArray, Threads, blocks
from worker.models.whisper.log_mel import HOP_LENGTH, N_FFT, hann_window

# Frames that a thread transforms at once: 0.4 MB, near a core.
FRAMES_PER_BLOCK = 250


def log_mel_frames(samples: FloatArray, n_mels: int, threads: Threads) -> FloatArray:
    """Return raw log10 mel energies; see `worker.models.whisper.log_mel.log_mel_frames`."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP_LENGTH]
    energies = np.empty((len(frames), n_mels), np.float32)

    def compute(part: slice) -> None:
        spectrum = np.fft.rfft(frames[part] * hann_window())
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        mels = power @ mel_filterbank(N_FFT, n_mels)
        np.log10(np.maximum(mels, np.float32(1e-10)), out=energies[part])

    threads.run(compute, [(part,) for part in blocks(len(frames), FRAMES_PER_BLOCK)])
    return energies
