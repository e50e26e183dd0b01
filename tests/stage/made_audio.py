"""Small recordings for tests: noise, WAV files and hand-made WAV headers."""

import struct

import numpy as np
import soundfile


def noise(num_frames, channels=1):
    """Return (num_frames, channels) of quiet noise."""
    return np.random.default_rng(0).normal(0, 0.1, (num_frames, channels)).astype(np.float32)


def write_wav(path, samples, rate_hz=16_000, subtype="FLOAT", container="WAV"):
    """Write samples with libsndfile and return the path."""
    soundfile.write(path, samples, rate_hz, subtype=subtype, format=container)
    return path


def wav_header(data_bytes, rate_hz=16_000, channels=1, riff_bytes=None):
    """Return 44 bytes that declare 16-bit samples, sensible or not."""
    riff_bytes = 36 + data_bytes if riff_bytes is None else riff_bytes
    fmt = struct.pack(
        "<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * 2 % 2**32, 2 * channels % 65536, 16
    )
    riff = b"RIFF" + struct.pack("<I", riff_bytes % 2**32)
    return riff + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", data_bytes)


def saved(tmp_path, content):
    """Write bytes to a file without a telling name and return the path."""
    path = tmp_path / "recording"
    path.write_bytes(content)
    return path
