"""What a transcription asks of the engine, window by window, and what it is told: plain records.

`states` is the device's own: a transcription only hands it back.
"""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TimestampRules:
    """Ids that the timestamp rules turn on, and the latest first timestamp.

    Attributes:
        eot: End of text; lower ids are text.
        begin: `<|0.00|>`; this id and higher ones are timestamps.
        max_initial_index: The first timestamp is at most this many steps of 0.02 s; None: any.
    """

    eot: int
    begin: int
    max_initial_index: int | None = 50


@dataclass(frozen=True)
class RowRules:
    """What one row of a decode may sample.

    Attributes:
        suppress: Ids never sampled.
        suppress_first: Ids never sampled first.
        timestamps: None decodes without the timestamp rules.
    """

    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    timestamps: TimestampRules | None = None


@dataclass(frozen=True)
class Encode:
    """Encode `size` mel frames from `seek`; the reply is `states`.

    With `for_language` the window is the start of the recording as language detection sees it:
    silence, not zeros, after the recording's end.
    """

    seek: int
    size: int
    for_language: bool = False


@dataclass(frozen=True)
class DetectLanguage:
    """Weigh the language tokens after `sot`; the reply is their probabilities, in order."""

    states: Any
    sot: int
    language_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Decode:
    """Decode one window; the reply is one `Decoded` for each seed.

    Attributes:
        prompt: Tokens that are read, not sampled.
        sot_index: Where in the prompt `no_speech` is weighed.
        seeds: One row each; sampling at a temperature depends on nothing else.
    """

    states: Any
    prompt: tuple[int, ...]
    sot_index: int
    no_speech: int
    eot: int
    max_tokens: int
    rules: RowRules
    temperature: float
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Decoded:
    """The tokens of one row, without the end of text, and how sure the model was."""

    tokens: tuple[int, ...]
    sum_logprob: float
    no_speech_prob: float

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability, the end of text counted."""
        return self.sum_logprob / (len(self.tokens) + 1)


@dataclass(frozen=True)
class Align:
    """Follow the attention of `tokens` over the audio; the reply is `Alignment`.

    Attributes:
        num_text: Lower ids are text; log-probabilities are among these.
    """

    states: Any
    tokens: tuple[int, ...]
    num_text: int


@dataclass(frozen=True)
class Alignment:
    """Cross-attention of the alignment heads, and how likely each token was.

    Attributes:
        scores: Before softmax, float32 (heads, tokens, audio positions of 20 ms).
        logprobs: Of tokens[1:], among text tokens, float32 (tokens - 1,).
    """

    scores: NDArray[np.float32]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class Compute:
    """Run something that takes milliseconds beside the decode; the reply is what it returns."""

    run: Callable[[], Any]


def compression_ratio(text: str) -> float:
    """Return UTF-8 bytes over zlib bytes: text that repeats itself is above 2.4."""
    encoded = text.encode("utf-8")
    return len(encoded) / len(zlib.compress(encoded))


def derive_seed(seed: int, *path: int) -> int:
    """Return a 64-bit seed for one branch of a job: its window, attempt, candidate.

    Unlike sums of small numbers, no two paths of one job or of neighbouring seeds share a stream.
    """
    text = ",".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
