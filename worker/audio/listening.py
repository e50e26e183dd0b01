"""All that is found out about a recording while it is read, beside its samples."""

from collections.abc import Sequence
from typing import Any

from producer.job import AudioOptions
from producer.settings import AudioSettings
from worker.audio.facts import Levels
from worker.audio.lanes import Lane, mix_of
from worker.audio.reader import AudioHeader, Block, Samples
from worker.audio.voice_activity import Span, VoiceActivity, silences

# In a result: 36 h of two words a minute. What lies behind them is transcribed.
MAX_SKIPPED = 5000
_SHARE_DIGITS, _DB_DIGITS = 6, 1


class Listening:
    """Hears one recording: its frames as they lie in the file, and the samples of the model.

    Args:
        settings: Whether voices are listened for although nothing is skipped.
        asked: Whether silence is skipped.

    Raises:
        InvalidModel: voices are listened for, and the packaged weights are not there.
    """

    def __init__(self, settings: AudioSettings, asked: AudioOptions) -> None:
        self._levels = Levels()
        self._skips = asked.vad == "skip-silence"
        self._voices = VoiceActivity() if settings.listen or self._skips else None
        self._apart: dict[int, VoiceActivity] = {}

    def watch(self, block: Block) -> None:
        """Take the next frames as they lie in the file."""
        self._levels.add(block.samples)

    def push(self, samples: Samples) -> None:
        """Take the next samples at 16 kHz, shape (n,) or (n, lanes)."""
        if self._voices is None:
            return
        self._voices.push(mix_of(samples))
        if samples.ndim > 1:
            for column, lane in enumerate(samples.T[:-1]):
                if column not in self._apart:
                    self._apart[column] = VoiceActivity()
                self._apart[column].push(lane)

    def finish(self) -> None:
        """Take note that the recording has ended; what follows is complete then."""
        if self._voices is not None:
            for voices in (self._voices, *self._apart.values()):
                voices.finish()

    @property
    def speech(self) -> Sequence[float] | None:
        """Return the seconds at which speech begins and ends, in turn; None if nobody listened."""
        return None if self._voices is None else self._voices.edges

    def speech_of(self, lane: Lane) -> Sequence[float] | None:
        """Return what `speech` is of the recording, of one lane."""
        voices = self._apart.get(lane.column, self._voices)
        return None if voices is None else voices.edges

    def skipped_of(self, lane: Lane) -> list[Span]:
        """Return the silent stretches of a lane that are not transcribed."""
        return self._skipped(self._apart.get(lane.column, self._voices))

    def _skipped(self, voices: VoiceActivity | None) -> list[Span]:
        if voices is None or not self._skips:
            return []
        return silences(voices.edges, voices.duration_s)[:MAX_SKIPPED]

    def facts(self, header: AudioHeader) -> dict[str, Any]:
        """Return what `producer.result.Audio` holds beyond duration, format and hash."""
        levels, voices = self._levels, self._voices
        facts: dict[str, Any] = {
            "loudness_dbfs": _rounded(levels.loudness_dbfs, _DB_DIGITS),
            "clipping_share": _rounded(levels.clipping_share, _SHARE_DIGITS),
            "tracks": header.num_tracks,
            "tags": dict(header.tags),
        }
        if voices is not None:
            facts["silence_share"] = _rounded(voices.silence_share, _SHARE_DIGITS)
            facts["snr_db"] = _rounded(voices.snr_db, _DB_DIGITS)
        facts["skipped"] = self._skipped(voices)
        return facts


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
