"""The ways in which log-mel frames are computed, by the network that offers them."""

import mlx.core as mx

from worker.models.numpy_math import Threads
from worker.models.whisper import log_mel, numpy_log_mel

THREADS = Threads(3)


def numpy_frames(samples, n_mels):
    return mx.array(numpy_log_mel.log_mel_frames(samples, n_mels, THREADS))


FRAMES = {"mlx": log_mel.log_mel_frames, "numpy": numpy_frames}
