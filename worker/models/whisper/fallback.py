"""Decide whether a window's text is retried, skipped as silence, or flagged for review.

The thresholds decide what is tried again and what is skipped, exactly as in openai-whisper. Flags
decide nothing: they tell a person where to look, and may be stricter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from producer.job import Options
from worker.device.decode_request import Decoded
from worker.models.repetition import compression_ratio, repeats_a_phrase

# Text over noises and animals passes the thresholds when the model is sure neither of the text nor
# of the silence. Base on the shared recordings, (no-speech, log-probability): noises (0.27, -0.81)
# and (0.577, -0.602); of 33 files of speech no window that the reference's threshold passes.
DOUBTFUL_NO_SPEECH = 0.2
DOUBTFUL_LOGPROB = -0.6
# The likeliest of 99 languages should be likelier than all others together.
DOUBTFUL_LANGUAGE = 0.5


@dataclass(frozen=True)
class Attempt:
    """One attempt at a window.

    Attributes:
        temperature: It was sampled at; 0 is greedy.
        text: Without timestamps.
        first_text: That of the first temperature, where this is a later one.
    """

    decoded: Decoded
    temperature: float
    text: str
    options: Options
    first_text: str | None = None

    @cached_property
    def compression_ratio(self) -> float:
        """Of the text; high where it repeats itself."""
        return compression_ratio(self.text)

    @property
    def needs_fallback(self) -> bool:
        """Return whether another temperature should be tried; silence is no reason."""
        if self._is_unlikely and self._sounds_silent:
            return False
        return self._is_compressible or self._is_unlikely

    @property
    def should_skip(self) -> bool:
        """Return whether the window is skipped: no speech, unless the text is likely enough."""
        threshold = self.options.logprob_threshold
        is_likely = threshold is not None and self.decoded.avg_logprob > threshold
        return self._sounds_silent and not is_likely

    @property
    def has_other_words(self) -> bool:
        """Return whether the first temperature, of whose text a model is surest, gave other words."""
        return self.first_text is not None and _letters(self.first_text) != _letters(self.text)

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """Why a person should look; see `producer.result.Segment`."""
        reasons = {
            "repetition": self._is_compressible or repeats_a_phrase(self.text),
            "low_confidence": self._is_unlikely,
            "likely_silence": self._sounds_silent or self._is_doubtful,
            "fallback_exhausted": self.needs_fallback,
        }
        return tuple(reason for reason, holds in reasons.items() if holds)

    @property
    def _is_compressible(self) -> bool:
        threshold = self.options.compression_ratio_threshold
        return threshold is not None and self.compression_ratio > threshold

    @property
    def _is_unlikely(self) -> bool:
        threshold = self.options.logprob_threshold
        return threshold is not None and self.decoded.avg_logprob < threshold

    @property
    def _sounds_silent(self) -> bool:
        threshold = self.options.no_speech_threshold
        return threshold is not None and self.decoded.no_speech_prob > threshold

    @property
    def _is_doubtful(self) -> bool:
        """Return whether neither text nor silence is clearly more likely."""
        return (
            self.decoded.no_speech_prob > DOUBTFUL_NO_SPEECH
            and self.decoded.avg_logprob < DOUBTFUL_LOGPROB
        )


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


def likeliest(candidates: Sequence[Decoded], length_penalty: float | None) -> Decoded:
    """Return the candidate of which the model is surest, the first among equals.

    Sums of log-probabilities are compared for each token, or for each ((5 + tokens) / 6) ** penalty
    (arXiv:1609.08144, equation 14), as openai-whisper does; the end of text is no token there.
    """

    def score(candidate: Decoded) -> float:
        length = len(candidate.tokens)
        if length_penalty is None:
            return candidate.sum_logprob / max(1, length)
        penalty: float = ((5 + length) / 6) ** length_penalty
        return candidate.sum_logprob / penalty

    return max(candidates, key=score)


def is_doubtful_language(probability: float | None) -> bool:
    """Return whether a language is no likelier than all others; None was not detected."""
    return probability is not None and probability <= DOUBTFUL_LANGUAGE
