"""FFmpeg's own mix and resampler, as openai-whisper runs them: 16-bit mono at the model's rate.

The reference reads every file by `ffmpeg -i FILE -f s16le -ac 1 -acodec pcm_s16le -ar 16000 -`. In
that command libswresample weighs the channels by their places, filters with its defaults (a Kaiser
window over 32 taps, exact phases), rounds to 16 bits without dither, and neither fills gaps between
timestamps nor trims. The same library, with the same options, gives the same samples here.

Which arithmetic it takes depends on FFmpeg's version. Up to 5.1, the version of Debian 12 with
which the golden transcripts were made, sources of 16 bits or less are resampled in 16-bit integers;
from 6 on in float, as wider sources always are. The results differ by up to 5 of 32768.
"""

from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

from worker.audio.mix import mix_to_mono
from worker.audio.reader import Block, Samples

_FORMATS = {"uint8": "u8", "int16": "s16", "int32": "s32", "float32": "flt", "float64": "dbl"}
# PyAV 18 reads and writes beyond its memory for planar frames of more channels.
MAX_PLANES = 8
_FULL_SCALE = np.float32(2**15)


class SwResampler:
    """Mixes and resamples blocks of one rate, layout and sample type; blocks equal one shot.

    Channels without known places, which FFmpeg refuses to mix, are averaged.
    """

    def __init__(self, first: Block, to_hz: int, *, is_before_6: bool) -> None:
        """Take the rate, the layout and the type from the first block.

        Args:
            first: A block of the kind that follows.
            to_hz: Rate of the output.
            is_before_6: Resample 16-bit sources in integers, as FFmpeg did up to version 5.1.
        """
        options = f"osr={to_hz}:osf=s16:ochl=mono"
        if is_before_6 and first.samples.dtype.itemsize <= 2:  # noqa: PLR2004 - 16 bits
            options += ":internal_sample_fmt=s16p"
        self._has_places = True
        self._rate_hz = first.rate_hz
        try:
            self._build(first, options)
        except (av.error.FFmpegError, ValueError):
            if first.samples.shape[1] == 1:
                raise
            self._has_places = False
            self._build(_averaged(first), options)

    def _build(self, first: Block, options: str) -> None:
        # Frames lie in memory as the decoder gave them; FFmpeg takes both, NumPy turns slowly.
        self._is_planar = (
            first.samples.T.flags.c_contiguous and first.samples.shape[1] <= MAX_PLANES
        )
        self._format = _FORMATS[first.samples.dtype.name] + ("p" if self._is_planar else "")
        self._layout = first.layout
        self._graph: Any = av.filter.Graph()
        self._source: Any = self._graph.add_abuffer(
            sample_rate=first.rate_hz,
            format=self._format,
            layout=self._layout,
            time_base=Fraction(1, first.rate_hz),
        )
        self._sink: Any = self._graph.add("abuffersink")
        self._graph.link_nodes(
            self._source, self._graph.add("aresample", options), self._sink
        ).configure()

    def convert(self, block: Block) -> Samples:
        """Return the output samples (n,) that the blocks so far determine."""
        samples = (block if self._has_places else _averaged(block)).samples
        rows = samples.T if self._is_planar else samples.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(rows), format=self._format, layout=self._layout
        )
        frame.sample_rate = self._rate_hz
        self._source.push(frame)
        return self._pulled()

    def finish(self) -> Samples:
        """Return what is left in the filter."""
        self._source.push(None)
        return self._pulled()

    def _pulled(self) -> Samples:
        pieces = [np.empty(0, np.int16)]
        while True:
            try:
                pieces.append(self._sink.pull().to_ndarray()[0])
            except (av.error.BlockingIOError, av.error.EOFError):
                break
        return np.concatenate(pieces).astype(np.float32) / _FULL_SCALE


def _averaged(block: Block) -> Block:
    return Block(mix_to_mono(block.floats)[:, None], block.rate_hz, "mono")
