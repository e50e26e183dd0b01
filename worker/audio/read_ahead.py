"""Reads a recording in its own thread, at most `BLOCKS_AHEAD` blocks ahead of the engine."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import structlog

from producer.errors import Internal, ScribefarmError
from producer.result import Audio
from producer.settings import AudioSettings
from worker.audio.reader import Samples
from worker.audio.recording import SAMPLE_RATE_HZ, open_recording

# Blocks of a recording that may wait for the engine: 4 MB.
BLOCKS_AHEAD = 2
# 30 s, which the engine takes at a time: each block has a fixed cost in its thread.
BLOCK_SAMPLES = 30 * SAMPLE_RATE_HZ

_log = structlog.get_logger()


@dataclass(frozen=True)
class End:
    """The last thing that a reading delivers: the recording was read to its end.

    Attributes:
        audio: What was read.
        busy_s: Seconds that reading, decoding and resampling took.
    """

    audio: Audio
    busy_s: float


@dataclass
class Reading:
    """One recording being read: delivers its blocks, then `End` or an error.

    Attributes:
        path: The recording.
        settings: Cap, resampler and whether to resample.
        deliver: Called in the reading thread with each block (samples,), then once with `End`
            or the error that ended the reading.
    """

    path: str
    settings: AudioSettings
    deliver: Callable[[Samples | End | ScribefarmError], None]
    _credit: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(BLOCKS_AHEAD), init=False
    )
    _is_stopped: bool = field(default=False, init=False)

    def take(self) -> None:
        """Note that the engine took a block, so that another may be delivered."""
        self._credit.release()

    def stop(self) -> None:
        """End the reading early; nothing more is delivered, except what is under way."""
        self._is_stopped = True
        self._credit.release()

    def run(self) -> None:
        """Read the whole recording; waits while `BLOCKS_AHEAD` blocks are not yet taken."""
        try:
            ending: End | ScribefarmError = self._read()
        except ScribefarmError as error:
            ending = error
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("reading failed", path=self.path)
            ending = Internal("reading", "must not fail", repr(error))
        if not self._is_stopped:
            self.deliver(ending)

    def _read(self) -> End:
        busy_s, started = 0.0, time.monotonic()
        recording = open_recording(
            self.path,
            max_seconds=longest_seconds(self.settings),
            target_rate_hz=SAMPLE_RATE_HZ,
            auto_resample=self.settings.auto_resample,
            resampler=self.settings.resampler,
        )
        with recording:
            for block in _gathered(recording):
                busy_s += time.monotonic() - started
                self._credit.acquire()
                if self._is_stopped:
                    break
                self.deliver(block)
                started = time.monotonic()
        header = recording.header
        audio = Audio(
            duration_s=recording.duration_s,
            sample_rate_hz=header.sample_rate_hz,
            channels=header.channels,
            format=header.format,
        )
        return End(audio, busy_s)


def _gathered(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Join blocks to at least `BLOCK_SAMPLES` samples; the last one holds the rest."""
    waiting: list[Samples] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= BLOCK_SAMPLES:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def longest_seconds(settings: AudioSettings) -> float:
    """Return the longest accepted recording in seconds.

    `max_audio_seconds` counts only while long recordings are rejected.
    """
    if settings.long_audio == "split":
        return settings.max_file_seconds
    return min(settings.max_audio_seconds, settings.max_file_seconds)
