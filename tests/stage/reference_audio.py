"""Samples as openai-whisper sees them, for tests of parity; the worker has its own reader."""

from pathlib import Path

import av
import numpy as np


def read_like_the_reference(path: str | Path) -> np.ndarray:
    """Return float32 samples, shape (n,), decoded to 16-bit 16 kHz mono by FFmpeg's libraries.

    openai-whisper runs `ffmpeg -f s16le -ac 1 -acodec pcm_s16le -ar 16000`. Against Debian 13's
    ffmpeg binary, PyAV 18 gives the same samples for jfk.flac and the five LibriSpeech files, and
    differs by at most 5 of 32768 on lj001 (22.05 kHz) and 2 on mobydick (44.1 kHz stereo).
    """
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
        frames = [*container.decode(audio=0), None]
        pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float32) / 32768.0
