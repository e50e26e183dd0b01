"""Reads a recording in its own thread, at most `BLOCKS_AHEAD` blocks ahead of the engine."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import structlog

from producer.errors import (
    Internal,
    PermanentError,
    ScribefarmError,
    SourceChanged,
    SourceUnreachable,
)
from producer.job import AudioOptions
from producer.result import Audio
from producer.settings import AudioSettings
from worker.audio.fingerprint import Fingerprint
from worker.audio.lanes import Lane
from worker.audio.listening import Listening
from worker.audio.losses import SALVAGED
from worker.audio.reader import Samples
from worker.audio.recording import SAMPLE_RATE_HZ, Recording
from worker.audio.source_file import SourceFile, open_source
from worker.audio.tracks import Tracks, open_tracks

# Blocks of a recording that may wait for the engine: 4 MB.
BLOCKS_AHEAD = 2
# 30 s, which the engine takes at a time: each block has a fixed cost in its thread.
BLOCK_SAMPLES = 30 * SAMPLE_RATE_HZ

# In `Transcript.flags`: the channels cancelled each other out, see `worker.audio.mix`.
PHASE_CANCELLED = "phase_cancelled"
# All channels that were to be split are the same sound: they were transcribed once, mixed.
CHANNELS_ALIKE = "channels_alike"

_log = structlog.get_logger()


@dataclass(frozen=True)
class Start:
    """The first thing that a reading delivers: the file is open and its header was accepted.

    Attributes:
        duration_s: What the header declares, at most the longest accepted; None if nothing.
    """

    duration_s: float | None


@dataclass(frozen=True)
class LaneEnd:
    """A lane that is transcribed for itself.

    Attributes:
        lane: Which.
        speech: As of `End`, of this lane.
        skipped: Its silent stretches that are not transcribed.
    """

    lane: Lane
    speech: Sequence[float] | None = None
    skipped: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class End:
    """The last thing that a reading delivers: the recording was read to its end.

    Attributes:
        audio: What was read.
        busy_s: Seconds that reading, decoding and resampling took.
        flags: Why a person should listen to it.
        speech: Seconds at which speech begins and ends, in turn; None if nobody listened.
        lanes: What is transcribed apart; empty for a recording that is transcribed as one.
    """

    audio: Audio
    busy_s: float
    flags: tuple[str, ...] = ()
    speech: Sequence[float] | None = None
    lanes: tuple[LaneEnd, ...] = ()


@dataclass(frozen=True)
class Alive:
    """What a reading in another process says while it has nothing to deliver: its file's disk lives."""


class Stopped(Exception):
    """Nobody waits for this recording any more."""


Piece: TypeAlias = Start | Samples | End | ScribefarmError


@dataclass
class Reading:
    """One recording being read: delivers `Start`, its blocks, then `End`; or an error.

    Attributes:
        path: The recording, as messages name it: an address without its secrets.
        settings: Roots, cap and whether to resample.
        deliver: Called in the reading thread with `Start`, with each block (samples,), or (samples,
            lanes) where lanes are apart, then once with `End` or the error that ended the reading.
        sha256: What the hash of the file's bytes must be, in hex; None takes any.
        asked: How the job wants it read.
        fetch: Returns a descriptor of the bytes of a source that is no file here, given what is to
            be called whenever something has come; None opens `path`.
        is_called_slow: Whether the log has a line on its silence.
    """

    path: str
    settings: AudioSettings
    deliver: Callable[[Piece], None]
    sha256: str | None = None
    asked: AudioOptions = field(default_factory=AudioOptions)
    fetch: Callable[[Callable[[], None]], int] | None = None
    is_called_slow: bool = False
    _credit: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(BLOCKS_AHEAD), init=False
    )
    _is_stopped: bool = field(default=False, init=False)
    _beat_at: float | None = field(default=None, init=False)

    @property
    def silent_s(self) -> float:
        """Return how long nothing has come from the file; 0 while nothing is asked of it."""
        beat_at = self._beat_at
        return 0.0 if beat_at is None else time.monotonic() - beat_at

    def take(self) -> None:
        """Note that the engine took a block, so that another may be delivered."""
        self._credit.release()

    def stop(self) -> None:
        """End the reading early; nothing more is delivered, except what is under way."""
        self._is_stopped = True
        self._credit.release()

    def give_up(self, silent_s: float) -> None:
        """End a reading whose thread hangs; delivers `SourceUnreachable` in its stead."""
        if not self._is_stopped:
            self._is_stopped = True
            limit = f"must give something within {self.settings.read_timeout_s:g} s"
            self.deliver(SourceUnreachable(self.path, limit, f"nothing for {silent_s:.1f} s"))

    def begin(self) -> None:
        """Note that a thread has taken the recording: from now on silence counts."""
        self._beat()

    def run(self, read: "Callable[[Reading], End] | None" = None) -> None:
        """Read the whole recording; waits while `BLOCKS_AHEAD` blocks are not yet taken.

        Args:
            read: Reads it elsewhere and gives all but the ending to `pass_on`; by default it is
                read here.
        """
        if self._is_stopped:
            return
        try:
            ending: End | ScribefarmError = self._read() if read is None else read(self)
        except ScribefarmError as error:
            ending = error
        except Stopped:
            return
        except Exception as error:  # noqa: BLE001 one recording fails, not all
            _log.exception("reading failed", path=self.path)
            ending = Internal("reading", "must not fail", repr(error))
        if not self._is_stopped:
            self._is_stopped = True
            self.deliver(ending)

    def pass_on(self, piece: Piece | Alive) -> None:
        """Deliver what was read elsewhere, a block as soon as there is room for it."""
        self._beat_on()
        if isinstance(piece, Alive):
            return
        if isinstance(piece, np.ndarray):
            self._wait_for_room()
            self._beat_on()
        self.deliver(piece)

    def _beat(self) -> None:
        self._beat_at = time.monotonic()

    def _read(self) -> End:
        self._beat()
        file = self._open()
        with file, Fingerprint(file, self._beat) as fingerprint:
            try:
                return self._read_opened(file, fingerprint)
            except SourceChanged:
                raise
            except PermanentError:
                # What is wrong with another file says nothing about the one that was submitted.
                if self.sha256 is not None:
                    fingerprint.finish(self.sha256)
                raise

    def _open(self) -> SourceFile:
        if self.fetch is None:
            return open_source(self.path, self.settings.roots)
        return SourceFile(self.path, self.fetch(self._beat_on))

    def _beat_on(self) -> None:
        """Note that something came, unless nobody wants the rest of it."""
        if self._is_stopped:
            raise Stopped
        self._beat()

    def _read_opened(self, file: SourceFile, fingerprint: Fingerprint) -> End:
        busy_s, started = 0.0, time.monotonic()
        listening = Listening(self.settings, self.asked)
        longest_s = longest_seconds(self.settings)
        with open_tracks(
            file,
            self.asked,
            max_seconds=longest_s,
            auto_resample=self.settings.auto_resample,
            watch=listening.watch,
        ) as recording:
            declared_s = recording.header.duration_s
            self.deliver(Start(None if declared_s is None else min(declared_s, longest_s)))
            for block in _gathered(self._watched(recording, fingerprint)):
                listening.push(block)
                busy_s += time.monotonic() - started
                self._wait_for_room()
                if self._is_stopped:
                    break
                self.deliver(block)
                started = time.monotonic()
        listening.finish()
        sha256 = None if self._is_stopped else fingerprint.finish(self.sha256)
        busy_s += time.monotonic() - started
        audio = _audio(recording, sha256, listening)
        lanes = tuple(
            LaneEnd(lane, listening.speech_of(lane), listening.skipped_of(lane))
            for lane in recording.lanes
        )
        return End(audio, busy_s, tuple(_flags(recording)), listening.speech, lanes)

    def _watched(
        self, recording: Recording | Tracks, fingerprint: Fingerprint
    ) -> Iterator[Samples]:
        """Yield a recording's blocks; each is hashed, and a sign that the file's disk lives."""
        for samples in recording:
            fingerprint.follow()
            self._beat()
            yield samples

    def _wait_for_room(self) -> None:
        """Wait until the engine can take another block; that silence is not the file's."""
        self._beat_at = None
        self._credit.acquire()
        self._beat()


def _audio(recording: Recording | Tracks, sha256: str | None, listening: Listening) -> Audio:
    header = recording.header
    return Audio(
        duration_s=recording.duration_s,
        sample_rate_hz=header.sample_rate_hz,
        channels=header.channels,
        format=header.format,
        sha256=sha256,
        lost=recording.losses,
        **listening.facts(header),
    )


def _flags(recording: Recording | Tracks) -> Iterator[str]:
    if recording.has_cancelling_channels:
        yield PHASE_CANCELLED
    if recording.losses:
        yield SALVAGED
    if recording.is_one_sound:
        yield CHANNELS_ALIKE


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
