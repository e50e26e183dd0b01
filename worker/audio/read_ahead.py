"""Recordings are read in threads of their own, a few blocks ahead of the engine; numpy only."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import structlog

from producer.errors import Internal, ScribefarmError
from producer.result import Audio
from producer.settings import AudioSettings
from worker.audio.recording import SAMPLE_RATE_HZ, Samples, open_recording

# Blocks that wait for the engine, a recording: 4 MB.
BLOCKS_AHEAD = 2
# The engine takes 30 s at a time: to it, few large blocks cost less than many small ones.
BLOCK_SAMPLES = 30 * SAMPLE_RATE_HZ

_log = structlog.get_logger()


@dataclass(frozen=True)
class End:
    """A recording was read to its end.

    Attributes:
        audio: What was read.
        busy_s: Seconds that reading, decoding and resampling took.
    """

    audio: Audio
    busy_s: float


@dataclass
class Reading:
    """One recording being read: hands out blocks, then `End` or an error.

    Attributes:
        path: The recording.
        deliver: Is called in the reading thread with each block, and once with how it ended.
    """

    path: str
    settings: AudioSettings
    deliver: Callable[[Samples | End | ScribefarmError], None]
    _credit: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(BLOCKS_AHEAD), init=False
    )
    _is_stopped: bool = field(default=False, init=False)

    def take(self) -> None:
        """Say that a block was used: another may be read."""
        self._credit.release()

    def stop(self) -> None:
        """Give up; nothing is delivered any more."""
        self._is_stopped = True
        self._credit.release()

    def run(self) -> None:
        """Read the recording; blocks while the engine has enough."""
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
    """Join blocks until they hold `BLOCK_SAMPLES`; the last one holds what is left."""
    waiting: list[Samples] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= BLOCK_SAMPLES:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def longest_seconds(settings: AudioSettings) -> float:
    """Return the cap on one recording: one pass, unless long ones are split."""
    if settings.long_audio == "split":
        return settings.max_file_seconds
    return min(settings.max_audio_seconds, settings.max_file_seconds)
