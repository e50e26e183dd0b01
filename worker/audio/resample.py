"""From a recording's channels and sampling rate to the model's one, block by block."""

import math
from functools import partial
from typing import Protocol

import numpy as np
import soxr

from worker.audio.mix import mix_to_mono
from worker.audio.reader import Block, Samples
from worker.audio.swresample import SwResampler


class ToMono(Protocol):
    """Makes mono samples at the model's rate of blocks of one rate, layout and sample type."""

    def convert(self, block: Block) -> Samples:
        """Return the output samples (n,) that the blocks so far determine."""

    def finish(self) -> Samples:
        """Return what is left."""


class Resampler(Protocol):
    """Resamples one recording; `soxr.ResampleStream` is one."""

    def resample_chunk(self, x: Samples, last: bool = False) -> Samples:
        """Return the output samples (n,) that the source samples so far determine.

        Args:
            x: Next source samples (m,), float32; may be empty.
            last: Nothing follows: return everything that is left.
        """


class _SameRate:
    """Equal rates: returns the samples unchanged, bit for bit."""

    def resample_chunk(self, x: Samples, last: bool = False) -> Samples:  # noqa: ARG002
        return x


class LinearResampler:
    """Linear interpolation as mlx-audio defines it: floor(n * to / from) samples.

    Output sample i lies at source position i * from / to; positions after the last source sample
    take its value. Positions are exact integers, so blocks of any size give the same samples.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self._from, self._to = from_hz // divisor, to_hz // divisor
        self._kept = np.empty(0, np.float32)
        self._kept_start = 0  # source index of the first kept sample
        self._next = 0  # index of the next output sample

    def resample_chunk(self, x: Samples, last: bool = False) -> Samples:
        """Return the next output samples; see `Resampler.resample_chunk`."""
        source = np.concatenate((self._kept, x))
        num_source = self._kept_start + len(source)
        stop = num_source * self._to // self._from
        if not last:  # interpolation needs the sample on either side
            stop = min(stop, -(-max(0, num_source - 1) * self._to // self._from))
        output = self._interpolate(source, max(self._next, stop))
        keep_from = min(max(0, self._next * self._from // self._to - self._kept_start), len(source))
        self._kept = source[keep_from:]
        self._kept_start += keep_from
        return output

    def _interpolate(self, source: Samples, stop: int) -> Samples:
        """Return output samples from `_next` up to `stop`; `source` starts at `_kept_start`."""
        position = np.arange(self._next, stop, dtype=np.int64) * self._from
        self._next = stop
        left, rest = np.divmod(position, self._to)
        left -= self._kept_start
        right = np.minimum(left + 1, len(source) - 1)
        weight = (rest / self._to).astype(np.float32)
        output: Samples = source[left] * (np.float32(1) - weight) + source[right] * weight
        return output


def _soxr_hq(from_hz: int, to_hz: int) -> Resampler:
    """Return python-soxr's stream; its blocks equal the one-shot result, sample for sample."""
    stream: Resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
    return stream


class _MixThenResample:
    """Averages the channels, then resamples."""

    def __init__(self, resampler: Resampler) -> None:
        self._resampler = resampler

    def convert(self, block: Block) -> Samples:
        return self._resampler.resample_chunk(mix_to_mono(block.floats))

    def finish(self) -> Samples:
        return self._resampler.resample_chunk(np.empty(0, np.float32), last=True)


_FFMPEG = {
    "ffmpeg": partial(SwResampler, is_before_6=True),
    "ffmpeg6": partial(SwResampler, is_before_6=False),
}
_OTHERS = {"soxr_hq": _soxr_hq, "linear": LinearResampler}
# The names in the settings.
RESAMPLERS = (*_FFMPEG, *_OTHERS)


def make_converter(name: str, first: Block, to_hz: int) -> ToMono:
    """Return what converts blocks like the first one, by its name in `RESAMPLERS`."""
    if name in _FFMPEG:
        return _FFMPEG[name](first, to_hz)
    is_same = first.rate_hz == to_hz
    return _MixThenResample(_SameRate() if is_same else _OTHERS[name](first.rate_hz, to_hz))


def decodes_with_ffmpeg(name: str) -> bool:
    """Return whether files are read by FFmpeg before libsndfile, as the reference reads them."""
    return name in _FFMPEG
