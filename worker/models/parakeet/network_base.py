"""What the family and the stepper ask of a Parakeet network, MLX's or NumPy's."""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from worker.models.parakeet.config import Config
from worker.models.parakeet.requests import Encoded, Label

Samples: TypeAlias = NDArray[np.float32]
"""Mono, 16 kHz, (n,)."""


RowState: TypeAlias = dict[str, Any]
"""Where rows stand: arrays with a row on the first axis, of the network that made them."""


class Found(NamedTuple):
    """What some steps of some rows found; arrays are (steps, rows) int32, but for the last two.

    Attributes:
        tokens: Labels, -1 where a step found none.
        frames: Where each was found.
        durations: Of each.
        logprobs: Of each, float32.
        has_ended: Whether a row is at its end after the last step, bool (rows,).
    """

    tokens: NDArray[np.int32]
    frames: NDArray[np.int32]
    durations: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    has_ended: NDArray[np.bool_]


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

    @property
    def num_encoder_parts(self) -> int:
        """In how many parts `encode_in_parts` starts pieces of one length."""

    def encode_in_parts(self, pieces: Sequence[Samples]) -> Generator[None, None, list[Encoded]]:
        """Start `encode` part by part, one each time it is resumed."""

    def label_ctc(self, pieces: Sequence[Samples]) -> Callable[[], list[tuple[Label, ...]]]:
        """Start everything up to CTC's labels; what is returned waits for them."""

    def hear_speech(self, pieces: Sequence[Samples]) -> Callable[[], list[NDArray[np.float32]]]:
        """Start the voice activity head; what is returned waits for probabilities a frame."""

    def start_rows(self, encoded: Sequence[Encoded]) -> RowState:
        """Return the state of rows at the start of their pieces; see `greedy.py`."""

    def move_rows(self, states: Sequence[RowState], places: Sequence[int]) -> RowState:
        """Return the rows of some states, put together and taken in the order of `places`.

        -1 is an empty row, which has ended.
        """

    def advance(self, state: RowState) -> tuple[RowState, Callable[[], Found]]:
        """Start some steps of all rows; what is returned second waits for what they found."""
