"""What the family and the stepper ask of a Parakeet network, MLX's or NumPy's."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.models.parakeet.config import Config
from worker.models.parakeet.requests import Encoded, Label

Samples: TypeAlias = NDArray[np.float32]
"""Mono, 16 kHz, (n,)."""


class Network(Protocol):
    """A loaded model. Pieces of any lengths are computed together and do not change each other.

    Raises (all methods that compute):
        OutOfMemory: the device had no room.
        OutOfRange: a piece is longer than the model's positions.
    """

    config: Config

    @property
    def busy_s(self) -> float:
        """Seconds that the host has computed in the device's place so far; 0 where it never does."""

    def encode(self, pieces: Sequence[Samples]) -> list[Encoded]:
        """Start features and encoder, and the joint network's share of it; waits for nothing."""

    def label_ctc(self, pieces: Sequence[Samples]) -> Callable[[], list[tuple[Label, ...]]]:
        """Start everything up to CTC's labels; what is returned waits for them."""

    def hear_speech(self, pieces: Sequence[Samples]) -> Callable[[], list[NDArray[np.float32]]]:
        """Start the voice activity head; what is returned waits for probabilities a frame."""

    def start_rows(self, encoded: Sequence[Encoded], num_rows: int) -> Any:
        """Return the state of rows at the start of their pieces; see `tdt.py`."""
