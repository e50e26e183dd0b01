"""Resamplers: from the recording's sampling rate to the model's, block by block."""

import math
from typing import Protocol

import numpy as np
import soxr

from worker.audio.reader import Samples


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


# By their names in the settings.
RESAMPLERS = {"soxr_hq": _soxr_hq, "linear": LinearResampler}


def make_resampler(name: str, from_hz: int, to_hz: int) -> Resampler:
    """Return a resampler for one recording, by its name in `RESAMPLERS`."""
    return _SameRate() if from_hz == to_hz else RESAMPLERS[name](from_hz, to_hz)
