"""What a Whisper transcription asks to have computed in batches: plain records.

`encoder_states` are the device's own arrays: a transcription only hands them back.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.engine.requests import Batched


@dataclass(frozen=True)
class Encode(Batched[Any]):
    """Encode `size` mel frames from `seek`; the reply is the window's encoder states.

    With `for_language` it is a whole window as language detection sees it: silence, not zeros,
    after the recording's end.

    Attributes:
        features: The recording's `LogMel`.
    """

    seek: int
    size: int
    for_language: bool = False
    features: Any = field(default=None, kw_only=True, repr=False)


@dataclass(frozen=True)
class DetectLanguage(Batched[list[float]]):
    """Weigh the language tokens after `sot`; the reply is their probabilities, in order."""

    encoder_states: Any
    sot: int
    language_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Alignment:
    """Cross-attention of the alignment heads, and how likely each token was.

    Attributes:
        cross_qk: Scores before softmax, float32 (heads, tokens, audio positions of 20 ms).
        logprobs: Of tokens[1:], among text tokens, float32 (tokens - 1,).
    """

    cross_qk: NDArray[np.float32]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True)
class Align(Batched[Alignment]):
    """Follow the attention of `tokens` over the audio; the reply is an `Alignment`.

    Attributes:
        num_text: Lower ids are text; log-probabilities are among these.
    """

    encoder_states: Any
    tokens: tuple[int, ...]
    num_text: int
