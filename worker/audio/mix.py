"""From the channels of a recording to one: the mean, unless the channels cancel each other out."""

import numpy as np

from worker.audio.reader import Frames, Samples

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

    def mix(self, frames: Frames) -> Samples:
        """Return a block (frames, channels) as (frames,)."""
        mono = mix_to_mono(frames)
        if frames.shape[1] != 2 or not _cancels(frames, mono):  # noqa: PLR2004 - stereo
            return mono
        self.has_cancelled = True
        return mix_to_mono(frames * np.array([1, -1], np.float32))


def mix_to_mono(frames: Frames) -> Samples:
    """Average the channels of (frames, channels) with equal weights, in float32.

    For stereo that is FFmpeg's mix. For more channels FFmpeg weighs by speaker position and drops
    the subwoofer; multi-channel files of archives are microphones, so all count the same.
    """
    if frames.shape[1] == 1:
        return frames[:, 0]
    mono: Samples = frames.mean(axis=1, dtype=np.float32)
    return mono


def _cancels(frames: Frames, mono: Samples) -> bool:
    """Return whether a stereo block is heard in its channels, but hardly in their mean."""
    flat = frames.reshape(-1)
    power = float(np.dot(flat, flat)) / flat.size
    return power > SOUND_ABOVE and float(np.dot(mono, mono)) / mono.size < CANCELLED_BELOW * power
