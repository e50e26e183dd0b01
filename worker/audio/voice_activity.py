"""Where somebody speaks in a recording, found while its samples pass.

Times are seconds of the recording. Speech is what Silero calls so with its own defaults
(silero-vad's `get_speech_timestamps`); what is skipped lies further from it, and is long.
"""

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.audio.reader import Samples
from worker.audio.silero import BATCH_CHUNKS, CHUNK_SAMPLES, Silero

Span: TypeAlias = tuple[float, float]

CHUNK_S = CHUNK_SAMPLES / 16_000
# Silero's defaults: speech begins at 0.5, ends below 0.35 for 100 ms, and lasts 250 ms or more.
ONSET, OFFSET = 0.5, 0.35
PAUSE_CHUNKS = math.ceil(0.1 / CHUNK_S)
LEAST_SPEECH_CHUNKS = math.ceil(0.25 / CHUNK_S)
# Kept before speech: breath, and words that begin softly. The middle of a plateau: between 0.5 and
# 1.0 s a file that begins with silence has no more word errors than unskipped, with 0.4 (as
# faster-whisper keeps) it had (tests/benchmarks/RESULTS.md). Behind speech nothing need be kept: a
# window that begins in speech reads on into the silence.
PADDING_S = 0.8
# Shorter silences are never skipped: a window of 30 s costs the same with them in it, and starts
# elsewhere behind them, which costs words (tests/benchmarks/RESULTS.md).
LEAST_SKIPPED_S = 5.0

_BATCH_SAMPLES = BATCH_CHUNKS * CHUNK_SAMPLES


class VoiceActivity:
    """Listens to the samples of one recording, in order; memory grows by 16 bytes an utterance.

    Attributes:
        edges: Seconds at which speech begins and ends, in turn; complete after `finish`.
        duration_s: Seconds heard so far.

    Raises:
        InvalidModel: the packaged weights are not there.
    """

    def __init__(self) -> None:
        self.edges = array("d")
        self.duration_s = 0.0
        self._network = Silero()
        self._waiting = np.empty(0, np.float32)
        self._num_chunks = 0
        self._first: int | None = None  # chunk at which the current speech began
        self._last = 0  # and the one behind its last chunk that was likely enough
        self._speech, self._pauses = _Power(), _Power()

    def push(self, samples: Samples) -> None:
        """Take the next samples, shape (n,): mono, 16 kHz."""
        self.duration_s += len(samples) / 16_000
        waiting = np.concatenate([self._waiting, samples])
        num_whole = len(waiting) // _BATCH_SAMPLES * _BATCH_SAMPLES
        for start in range(0, num_whole, _BATCH_SAMPLES):
            self._hear(waiting[start : start + _BATCH_SAMPLES])
        self._waiting = waiting[num_whole:].copy()

    def finish(self) -> None:
        """Take note that the recording has ended."""
        missing = -len(self._waiting) % CHUNK_SAMPLES
        if len(self._waiting):
            self._hear(np.pad(self._waiting, (0, missing)))
        self._waiting = self._waiting[:0]
        if self._first is not None:
            self._end_speech(self._first)

    @property
    def speech_s(self) -> float:
        """Return the seconds of speech so far."""
        return sum(self.edges[1::2]) - sum(self.edges[::2])

    @property
    def silence_share(self) -> float | None:
        """Return the share of the recording without speech, 0..1; None of nothing."""
        if self.duration_s == 0:
            return None
        return min(1.0, max(0.0, 1 - self.speech_s / self.duration_s))

    @property
    def snr_db(self) -> float | None:
        """Return how much louder speech is than what is heard in its pauses, in dB.

        That is (power in speech - power in pauses) / power in pauses, over the 32 ms pieces that
        are likely and unlikely speech. None without both, or if the pauses are the louder ones.
        """
        speech, pauses = self._speech.mean, self._pauses.mean
        if not pauses or speech <= pauses:
            return None
        return 10 * math.log10((speech - pauses) / pauses)

    def _hear(self, samples: Samples) -> None:
        chunks = samples.reshape(-1, CHUNK_SAMPLES)
        probabilities = self._network.probabilities(chunks)
        powers = np.einsum("ij,ij->i", chunks, chunks) / CHUNK_SAMPLES
        self._speech.add(powers[probabilities >= ONSET])
        self._pauses.add(powers[probabilities < OFFSET])
        for probability in probabilities.tolist():
            self._follow(probability)

    def _follow(self, probability: float) -> None:
        """Take one chunk's probability; speech goes on until it was unlikely for a pause."""
        here = self._num_chunks
        self._num_chunks += 1
        if self._first is None:
            if probability >= ONSET:
                self._first, self._last = here, here + 1
        elif probability >= OFFSET:
            self._last = here + 1
        elif here + 1 - self._last >= PAUSE_CHUNKS:
            self._end_speech(self._first)

    def _end_speech(self, first: int) -> None:
        if self._last - first >= LEAST_SPEECH_CHUNKS:
            end_s = min(self._last * CHUNK_S, self.duration_s)
            self.edges.extend((first * CHUNK_S, end_s))
        self._first = None


class _Power:
    """A mean power over pieces of one length."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, powers: NDArray[np.float32]) -> None:
        self._sum += float(powers.sum(dtype=np.float64))
        self._count += len(powers)

    @property
    def mean(self) -> float:
        """Return the mean; 0 of none."""
        return self._sum / self._count if self._count else 0.0


def silences(edges: Sequence[float], duration_s: float) -> list[Span]:
    """Return the stretches that are skipped: long ones, from speech to `PADDING_S` before speech.

    Args:
        edges: Seconds at which speech begins and ends, in turn.
        duration_s: Of the recording. Without speech it is skipped whole, however short it is.
    """
    if not edges:
        return [(0.0, round(duration_s, 3))]
    borders = [0.0, *edges, duration_s + PADDING_S]
    gaps = [(end, start - PADDING_S) for end, start in list(pairwise(borders))[::2]]
    return [
        (round(start, 3), round(end, 3)) for start, end in gaps if end - start >= LEAST_SKIPPED_S
    ]
