"""From the channels of a recording to one: the mean, unless the channels cancel each other out."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.audio.reader import Block, Frames, Samples

# A mix this much weaker than its channels, in power: 15 dB. Equal channels give 1, unrelated ones
# and a silent one 0.5, and two with a correlation of -0.94 or less give less than 0.03. Stereo
# microphones and pans stay above 0.2. The noise of two channels loses 3 dB in a mix, so speech that
# loses 15 has become much harder to hear.
CANCELLED_BELOW = 0.03
# Mean power of the channels that counts as sound, -80 dB of full scale: below it there is nothing
# but the dither of 16 bits.
SOUND_ABOVE = 1e-8


class Mixer:
    """Mixes the blocks of one recording to mono.

    Stereo whose channels cancel each other out, as of a wrongly wired cable (left equals minus
    right), has its second channel negated. That is decided for each block by itself: it needs no
    look ahead, a hiss before the first word decides nothing, and the same file gives the same
    samples, since blocks are cut at the same frames.

    Attributes:
        has_cancelled: Whether a block so far was mixed in that way.
    """

    def __init__(self) -> None:
        self.has_cancelled = False

    def mended(self, block: Block) -> Block:
        """Return a block as it is, or with its second channel negated if the two cancel."""
        if block.samples.shape[1] != 2 or not _cancels(block.floats):  # noqa: PLR2004 - stereo
            return block
        self.has_cancelled = True
        first, second = block.samples.T
        return replace(block, samples=np.stack([first, _negated(second)], axis=1))

    def mix(self, block: Block) -> Samples:
        """Return a block (frames, channels) as (frames,)."""
        return mix_to_mono(self.mended(block).floats)


def mix_to_mono(frames: Frames) -> Samples:
    """Average the channels of (frames, channels) with equal weights, in float32.

    For stereo that is FFmpeg's mix. For more channels FFmpeg weighs by speaker position and drops
    the subwoofer; multi-channel files of archives are microphones, so all count the same.
    """
    channels = frames.shape[1]
    if channels == 1:
        return frames[:, 0]
    if channels == 2:  # noqa: PLR2004 - the same mean, ten times as fast
        halves: Samples = (frames[:, 0] + frames[:, 1]) * np.float32(0.5)
        return halves
    mono: Samples = frames.mean(axis=1, dtype=np.float32)
    return mono


def _cancels(frames: Frames) -> bool:
    """Return whether a stereo block is heard in its channels, but hardly in their mean."""
    power: float = sum(_power(channel) for channel in frames.T) / frames.shape[1]
    return power > SOUND_ABOVE and _power(mix_to_mono(frames)) < CANCELLED_BELOW * power


def _power(samples: Samples) -> float:
    return float(np.dot(samples, samples)) / samples.size


def _negated(samples: NDArray[Any]) -> NDArray[Any]:
    """Return the samples with the opposite sign; the lowest one, which has none, becomes the top."""
    if samples.dtype.kind == "f":
        negated: NDArray[Any] = np.negative(samples)
    else:
        limits = np.iinfo(samples.dtype)
        negated = limits.max - np.maximum(samples, limits.min + 1) + limits.min + 1
    return negated
