"""What of a recording is transcribed apart: its channels, its tracks, or all of it mixed.

A lane is one stream of mono samples. A mixed recording has one; a telephone call with a speaker a
channel has two, and the mix as a third, which is used if the two are the same sound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from producer.errors import CorruptAudio, OutOfRange
from worker.audio.mix import SOUND_ABOVE, Mixer
from worker.audio.reader import AudioHeader, Block, Samples

# How the channels of a recording are read: mixed, each apart, or one alone, counted from 1.
Channels = Literal["mix", "split"] | int

# The most that are transcribed apart: a mixing desk. Each is work of its own.
MAX_LANES = 32
# Channels whose difference is this much weaker than they are, in power (20 dB), are one sound: a mono
# recording in a stereo file, over a cassette's two tracks too. Two microphones in one room differ more.
ALIKE_BELOW = 0.01


class Lane(NamedTuple):
    """A lane that is transcribed.

    Attributes:
        column: Of the blocks.
        number: Of the channel or track, from 1.
    """

    column: int
    number: int


class Selection(Protocol):
    """Chooses the lanes of a recording, block by block."""

    mixer: Mixer

    def lanes_of(self, block: Block) -> list[Block]:
        """Return the lanes of a block: each is mixed to mono by itself."""


class Mixed:
    """All channels in one lane."""

    def __init__(self) -> None:
        self.mixer = Mixer()

    def lanes_of(self, block: Block) -> list[Block]:
        """Return the block, its channels mended if they cancel each other out."""
        return [self.mixer.mended(block)]


class OneChannel:
    """One channel alone, counted from 1.

    Raises:
        OutOfRange: the recording has no such channel.
    """

    def __init__(self, header: AudioHeader, number: int) -> None:
        if number > header.channels:
            limit = f"must have the channel that audio.channels names, {number}"
            raise OutOfRange(header.path, limit, header.channels)
        self.mixer = Mixer()
        self._path, self._number = header.path, number

    def lanes_of(self, block: Block) -> list[Block]:
        """Return the channel."""
        if self._number > block.samples.shape[1]:
            limit = f"must keep its channel {self._number}"
            raise CorruptAudio(self._path, limit, f"{block.samples.shape[1]} channels")
        return [_column(block, self._number - 1)]


class Split:
    """Each channel in a lane of its own, and the mix in the last.

    Raises:
        OutOfRange: more channels than `MAX_LANES`.
    """

    def __init__(self, header: AudioHeader) -> None:
        if header.channels > MAX_LANES:
            limit = f"must have at most {MAX_LANES} channels to split them"
            raise OutOfRange(header.path, limit, header.channels)
        self.mixer = Mixer()
        self._path, self._channels = header.path, header.channels
        self._energies = np.zeros(header.channels)
        self._differences = np.zeros(header.channels)
        self._num_frames = 0

    def lanes_of(self, block: Block) -> list[Block]:
        """Return the channels and the mix, and note how loud and how different they are."""
        if block.samples.shape[1] != self._channels:
            limit = f"must keep its {self._channels} channels while they are split"
            raise CorruptAudio(self._path, limit, block.samples.shape[1])
        floats = block.floats
        apart = floats - floats[:, :1]
        self._energies += np.einsum("ij,ij->j", floats, floats, dtype=np.float64)
        self._differences += np.einsum("ij,ij->j", apart, apart, dtype=np.float64)
        self._num_frames += len(floats)
        columns = [_column(block, index) for index in range(self._channels)]
        return [*columns, self.mixer.mended(block)]

    @property
    def is_one_sound(self) -> bool:
        """Return whether all channels were the same sound."""
        loudest = float(self._energies.max())
        return bool((self._differences <= ALIKE_BELOW * loudest).all())

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Return the channels with sound in them; only the mix if they are one sound, or none."""
        loud = self._energies > SOUND_ABOVE * max(1, self._num_frames)
        if self.is_one_sound or not loud.any():
            return (Lane(self._channels, 0),)
        return tuple(Lane(index, index + 1) for index in np.flatnonzero(loud).tolist())


def select(header: AudioHeader, channels: Channels) -> Selection:
    """Return what chooses the lanes that are asked for; a mono recording needs no split.

    Raises:
        OutOfRange: the recording has not the channel, or too many to split.
    """
    if isinstance(channels, int):
        return OneChannel(header, channels)
    return Split(header) if channels == "split" and header.channels > 1 else Mixed()


def _column(block: Block, index: int) -> Block:
    return replace(block, samples=block.samples[:, index : index + 1], layout="mono")


class SideBySide:
    """Puts lanes side by side that give their samples in pieces of different sizes."""

    def __init__(self, num_lanes: int) -> None:
        self._waiting = [np.empty(0, np.float32) for _ in range(num_lanes)]

    def push(self, lane: int, samples: Samples) -> None:
        """Take the next samples of a lane."""
        self._waiting[lane] = np.concatenate([self._waiting[lane], samples])

    def take(self) -> Samples:
        """Return what all lanes have, shape (samples, lanes)."""
        return self._cut(min(map(len, self._waiting)))

    def finish(self) -> Samples:
        """Return the rest; lanes that ended earlier have silence."""
        return self._cut(max(map(len, self._waiting)))

    def _cut(self, size: int) -> Samples:
        columns = np.zeros((len(self._waiting), size), np.float32)
        for lane, column in enumerate(columns):
            taken = self._waiting[lane][:size]
            column[: len(taken)] = taken
            self._waiting[lane] = self._waiting[lane][size:]
        return columns.T


def side_by_side(lanes: Sequence[Iterator[Samples]]) -> Iterator[Samples]:
    """Yield blocks (samples, lanes) of several recordings that run at the same time."""
    waiting = SideBySide(len(lanes))
    alive = dict(enumerate(lanes))
    while alive:
        for number, lane in list(alive.items()):
            samples = next(lane, None)
            if samples is None:
                del alive[number]
            else:
                waiting.push(number, samples)
        if len(alive) == len(lanes):
            yield waiting.take()
    yield waiting.finish()


def mix_of(samples: Samples) -> Samples:
    """Return what stands for the whole recording in a block: itself, or its last column."""
    return samples if samples.ndim == 1 else samples[:, -1]
