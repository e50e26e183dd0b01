"""AMR recordings as telephones make them, with and without frames of comfort noise (DTX)."""

import av
import numpy as np

RATE_HZ, FRAME_SAMPLES = 8_000, 160


def write_amr(path, *, has_pauses, seconds=2):
    """Write noise with the loudness of speech, silent in its middle half, and return the path."""
    pcm = np.random.default_rng(0).normal(0, 3000, seconds * RATE_HZ)
    quarter = len(pcm) // 4
    pcm[quarter:-quarter] *= 0.001
    pcm = pcm.astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopencore_amrnb", rate=RATE_HZ, layout="mono")
        stream.bit_rate = 12_200
        stream.codec_context.options = {"dtx": str(int(has_pauses))}
        for start in range(0, len(pcm), FRAME_SAMPLES):
            samples = pcm[None, start : start + FRAME_SAMPLES]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
