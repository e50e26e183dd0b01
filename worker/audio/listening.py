"""All that is found out about a recording while it is read, beside its samples."""

from collections.abc import Sequence
from typing import Any

from producer.job import AudioOptions
from producer.settings import AudioSettings
from worker.audio.facts import Levels
from worker.audio.reader import AudioHeader, Block, Samples
from worker.audio.voice_activity import VoiceActivity, silences

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

    def watch(self, block: Block) -> None:
        """Take the next frames as they lie in the file."""
        self._levels.add(block.samples)

    def push(self, samples: Samples) -> None:
        """Take the next samples, shape (n,): mono, 16 kHz."""
        if self._voices is not None:
            self._voices.push(samples)

    def finish(self) -> None:
        """Take note that the recording has ended; what follows is complete then."""
        if self._voices is not None:
            self._voices.finish()

    @property
    def speech(self) -> Sequence[float] | None:
        """Return the seconds at which speech begins and ends, in turn; None if nobody listened."""
        return None if self._voices is None else self._voices.edges

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
        if voices is not None and self._skips:
            facts["skipped"] = silences(voices.edges, voices.duration_s)[:MAX_SKIPPED]
        return facts


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
