"""Greedy CTC: the most likely token of each frame, repetitions and blanks left out."""

import numpy as np
from numpy.typing import NDArray

from producer.errors import NonFinite
from worker.models.parakeet.requests import Label


def collapsed(
    tokens: NDArray[np.int32], logprobs: NDArray[np.float32], blank: int
) -> tuple[Label, ...]:
    """Return the labels of one piece.

    Args:
        tokens: The most likely of each frame, (frames,).
        logprobs: Of each, (frames,).
        blank: Id of the blank, which also parts two labels of the same token.

    Raises:
        NonFinite: the network computed NaN.
    """
    if not tokens.size:
        return ()
    if not np.isfinite(logprobs).all():
        raise NonFinite("recognize: log-probabilities", "must be finite", "NaN or infinity")
    starts = np.flatnonzero(np.diff(tokens, prepend=tokens[0] - 1))
    lengths = np.diff(starts, append=tokens.size)
    best = np.maximum.reduceat(logprobs, starts)
    runs = zip(
        tokens[starts].tolist(), starts.tolist(), lengths.tolist(), best.tolist(), strict=True
    )
    return tuple(Label(*run) for run in runs if run[0] != blank)
