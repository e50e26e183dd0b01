"""What a Parakeet transcription asks to have computed: plain records.

`Encoded.states` are the device's own arrays: a transcription only hands them back. Times are in
encoder frames of `Config.frame_seconds` (80 ms), counted from the start of the piece.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.engine.requests import Batched, Rows


class Label(NamedTuple):
    """One token that was found in a piece.

    Attributes:
        token: Id in the vocabulary; never the blank.
        frame: Encoder frame at which it was found.
        duration: Frames until the next one is looked for, as the model says: 0 and more for TDT;
            for CTC how many frames in a row had this token, 1 and more.
        logprob: Natural log-probability of the token among tokens and blank; for CTC the highest of
            its frames.
    """

    token: int
    frame: int
    duration: int
    logprob: float


@dataclass(frozen=True)
class Encoded:
    """The encoder's output of one piece, made ready for the joint network.

    Attributes:
        states: (frames, joint width), on the device; rows from `num_frames` on are padding.
        num_frames: Encoder frames of the piece; 0 for less than a hop of samples.
    """

    states: Any = field(repr=False)
    num_frames: int


@dataclass(frozen=True)
class Encode(Batched[Encoded]):
    """Encode one piece.

    Attributes:
        samples: Float32 at 16 kHz, mono, (n,).
    """

    samples: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Recognize(Rows[tuple[Label, ...]]):
    """Find the labels of an encoded piece, by a transducer; one row."""

    encoded: Encoded


@dataclass(frozen=True)
class LabelCtc(Batched[tuple[Label, ...]]):
    """Encode one piece and find its labels, by CTC.

    Attributes:
        samples: Float32 at 16 kHz, mono, (n,).
    """

    samples: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class HearSpeech(Batched[NDArray[np.float32]]):
    """Tell where somebody speaks; only for models with a voice activity head.

    The reply is a probability for each encoder frame, float32 (frames,). The head sees 0.6 s around
    a frame and nothing of the rest, but for the normalisation over the piece.

    Attributes:
        samples: Float32 at 16 kHz, mono, (n,).
    """

    samples: NDArray[np.float32] = field(repr=False)
