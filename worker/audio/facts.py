"""Facts about a recording that cost nothing while it is read: how loud it is, clipping, tags."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from producer.console import one_line

# Zero and full scale of the sample types that files hold; of others 0 and 1.
_ZERO_AND_SCALE = {"uint8": (128.0, 128.0), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}
# The largest sample of 16 bits: what a converter gives for all that is louder.
FULL_SCALE = 32767 / 32768
# What an archive looks a recording up by, as FFmpeg calls it. The last three are of Broadcast Wave
# files (EBU Tech 3285); `time_reference` counts samples since midnight.
KEPT_TAGS = (
    "title",
    "artist",
    "album",
    "date",
    "creation_time",
    "originator",
    "originator_reference",
    "time_reference",
)
MAX_TAG_CHARS = 256


class Levels:
    """How loud a recording is, over all samples of all its channels.

    Attributes:
        num_clipped: Samples at full scale or beyond.
        num_samples: Samples so far, each channel's counted.
    """

    def __init__(self) -> None:
        self.num_clipped = 0
        self.num_samples = 0
        self._energy = 0.0

    def add(self, samples: NDArray[Any]) -> None:
        """Take a block (frames, channels) at the source's rate and in its type."""
        if not samples.size:
            return
        zero, scale = _ZERO_AND_SCALE.get(samples.dtype.name, (0.0, 1.0))
        flat = samples.ravel(order="K")  # no copy, whichever comes first in memory
        floats = flat.astype(np.float32, copy=False)
        if zero:
            floats = floats - np.float32(zero)
        self.num_samples += flat.size
        self._energy += float(np.dot(floats, floats)) / scale**2
        # In 8 bits the largest sample is further from full scale.
        largest = scale * FULL_SCALE if scale == 1 else min(scale - 1, scale * FULL_SCALE)
        if max(flat.max() - zero, zero - flat.min()) >= largest:
            self.num_clipped += int(np.count_nonzero(np.abs(floats) >= np.float32(largest)))

    @property
    def loudness_dbfs(self) -> float | None:
        """Return the mean power in dB of full scale, as FFmpeg's `volumedetect` (mean_volume).

        A sine at full scale has -3 dB. None for digital silence, and for what no float32 holds.
        """
        if not (self._energy > 0 and math.isfinite(self._energy)):
            return None
        return 10 * math.log10(self._energy / self.num_samples)

    @property
    def clipping_share(self) -> float:
        """Return the share of samples at full scale or beyond, 0..1."""
        return self.num_clipped / max(1, self.num_samples)


def kept_tags(*found: Mapping[str, str]) -> dict[str, str]:
    """Return the tags worth keeping, each as one line of at most `MAX_TAG_CHARS` characters.

    Args:
        found: Tags of the file, then of the stream in it; the first that has a name counts.
    """
    by_name: dict[str, str] = {}
    for tags in found:
        for name, value in tags.items():
            by_name.setdefault(name.lower(), value)
    if "time_reference" in by_name and "encoded_by" in by_name:
        # FFmpeg gives all of a Broadcast Wave's fields their own names but this one.
        by_name.setdefault("originator", by_name["encoded_by"])
    kept = {
        name: one_line(by_name[name][:MAX_TAG_CHARS].strip())[:MAX_TAG_CHARS]
        for name in KEPT_TAGS
        if name in by_name
    }
    return {name: value for name, value in kept.items() if value}
