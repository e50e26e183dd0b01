"""Greedy CTC: repetitions are one label, blanks part them."""

import numpy as np
import pytest

from producer.errors import NonFinite
from worker.models.parakeet.ctc import collapsed
from worker.models.parakeet.requests import Label

BLANK = 9


def labels(tokens, logprobs=None):
    values = np.zeros(len(tokens)) if logprobs is None else np.array(logprobs)
    return collapsed(np.array(tokens, np.int32), values.astype(np.float32), BLANK)


def test_frames_of_the_same_token_are_one_label():
    """With the frames that it lasted and the best of its probabilities."""
    assert labels([9, 4, 4, 9, 4, 5, 5, 5], [0, -3, -1, 0, -2, -0.5, -4, -0.25]) == (
        Label(4, 1, 2, -1.0),
        Label(4, 4, 1, -2.0),
        Label(5, 5, 3, -0.25),
    )


def test_blanks_and_nothing_give_no_labels():
    """Silence, and less than a hop of samples."""
    assert labels([9, 9, 9]) == labels([]) == ()


def test_a_label_may_fill_the_piece():
    """Token 0 among them."""
    assert labels([0, 0]) == (Label(0, 0, 2, 0.0),)


def test_nan_is_no_label():
    """What a model in too narrow a type computes."""
    with pytest.raises(NonFinite):
        labels([1, 2], [0, np.nan])
