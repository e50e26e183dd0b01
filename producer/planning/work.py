"""How much there is to do: what the farm has, and what somebody would add."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import redis

from producer.batches.counts import read_tally
from producer.batches.views import latest_batches
from producer.errors import JobNotFound
from producer.planning.simulation import Recording

# Recordings of one play; more are bundled, so that a play takes a fraction of a second.
MAX_RECORDINGS = 4000
# Batches that are looked at for what is left.
NUM_BATCHES = 200
# Of a recording of which nothing is known, and of one of `--hours`.
DEFAULT_LENGTH_S = 600.0
# How lengths are spread where only their mean is known: sigma of their logarithm. In oral history and
# radio archives most recordings are shorter than the mean, a few many times as long.
SPREAD = 0.8


class Load(NamedTuple):
    """Recordings of one batch that are still to be done.

    Attributes:
        name: Of the batch; "" is what would be added.
        num_recordings: How many.
        lengths_s: Of those whose length is known.
        mean_s: Of the others.
        failed_share: Of its recordings that fail, as far as is known.
    """

    name: str
    num_recordings: int
    lengths_s: Sequence[float] = ()
    mean_s: float = DEFAULT_LENGTH_S
    failed_share: float = 0.0

    @property
    def num_unknown(self) -> int:
        """Recordings of unknown length."""
        return self.num_recordings - len(self.lengths_s)

    @property
    def audio_s(self) -> float:
        """Seconds of audio, those of unknown length at their mean."""
        return sum(self.lengths_s) + self.num_unknown * self.mean_s

    def drawn(self, random_: random.Random, number: int) -> list[Recording]:
        """Return one play's recordings, in order, in at most `MAX_RECORDINGS` bundles.

        Unknown lengths are drawn; a recording that fails does so somewhere, and takes that long.
        """
        lengths = list(self.lengths_s)
        mu = -SPREAD * SPREAD / 2
        lengths += (
            self.mean_s * random_.lognormvariate(mu, SPREAD) for _ in range(self.num_unknown)
        )
        if self.failed_share:
            lengths = [
                length * (random_.random() if random_.random() < self.failed_share else 1.0)
                for length in lengths
            ]
        size = -(-len(lengths) // MAX_RECORDINGS) or 1
        bundles = (lengths[start : start + size] for start in range(0, len(lengths), size))
        return [Recording(sum(bundle), number, len(bundle)) for bundle in bundles]


def mixed(loads: Sequence[Load], random_: random.Random) -> list[Recording]:
    """Return one play's recordings of all loads, one load behind the other, as in the queue."""
    return [each for number, load in enumerate(loads) for each in load.drawn(random_, number)]


def waiting(connection: redis.Redis) -> list[Load]:
    """Return what is left of the latest batches, the oldest first.

    Headers are not kept, so lengths are the mean of the recordings of the batch that succeeded.

    Raises:
        ServerUnreachable: no server answers.
    """
    loads = []
    for name in reversed(latest_batches(connection, NUM_BATCHES)):
        try:
            counts = read_tally(connection, name).counts
        except JobNotFound:
            continue
        if counts.left:
            mean_s = counts.audio_s / counts.succeeded if counts.succeeded else DEFAULT_LENGTH_S
            failed_share = counts.failed / counts.done if counts.done else 0.0
            loads.append(Load(name, counts.left, (), mean_s, failed_share))
    return loads
