"""One step of greedy TDT decoding, and the rows that take it: the same code for MLX and NumPy.

A step evaluates the joint network once for each row, where the row stands. A blank moves it on by
the duration; a label is read by the predictor, and moves the row on by its duration, which may be 0.
Row by row this finds what NeMo's label looping finds (`tdt_label_looping.py`), which takes the same
steps in another order:

- a blank of duration 0 moves on by 1;
- a row that has found `max_symbols` labels in a frame and still stands there moves on by 1;
- a row has ended when it stands past its last frame.

`xp` is `mlx.core` or `numpy`. R rows, T frames, J joint width, V tokens.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from worker.models.parakeet.config import TransducerConfig
from worker.models.parakeet.network_base import RowState

NO_FRAME = -1

PredictorState: TypeAlias = dict[str, Any]
"""Arrays of a predictor with a row on the first axis."""


class Transducer(Protocol):
    """Predictor and joint network."""

    start: PredictorState
    """Of one row that has found nothing: the blank, read from zero."""

    def logits(self, encoded: Any, state: PredictorState) -> tuple[Any, Any]:
        """Return float32 logits of tokens and blank (R, V + 1), and of durations, for states (R, J)."""

    def read(self, labels: Any, found: Any, state: PredictorState) -> PredictorState:
        """Return the state after labels (R,) of the rows that have found one (R,)."""


def start_rows(
    xp: Any, encoded: Sequence[Any], num_frames: Sequence[int], transducer: Transducer
) -> RowState:
    """Return rows that have found nothing.

    Args:
        xp: Array module.
        encoded: Projected states of each, (frames, J), a frame at least.
        num_frames: Frames of each.
        transducer: Starts the predictor.
    """
    count = len(encoded)
    length = max(each.shape[0] for each in encoded)
    started = transducer.start.items()
    predictor = {name: xp.repeat(each, count, axis=0) for name, each in started}
    zeros = xp.zeros((count,), xp.int32)
    return predictor | {
        "encoded": xp.stack([_lengthened(xp, each[None], length)[0] for each in encoded]),
        "num_frames": xp.array(num_frames, dtype=xp.int32),
        "time": zeros,
        "last": zeros + NO_FRAME,
        "count": zeros,
    }


def move_rows(xp: Any, states: Sequence[RowState], places: Sequence[int]) -> RowState:
    """Return rows of states, counted through, in the order of `places`; -1 is an empty row."""
    length = max(state["encoded"].shape[1] for state in states)
    states = [state | {"encoded": _lengthened(xp, state["encoded"], length)} for state in states]
    index = xp.array([max(place, 0) for place in places])
    is_taken = xp.array([place >= 0 for place in places])
    moved = {
        name: xp.concatenate([state[name] for state in states])[index]
        if len(states) > 1
        else states[0][name][index]
        for name in states[0]
    }
    moved["num_frames"] = xp.where(is_taken, moved["num_frames"], 0)
    return moved


def step(
    xp: Any, state: RowState, config: TransducerConfig, blank: int, transducer: Transducer
) -> tuple[RowState, tuple[Any, Any, Any, Any]]:
    """Take one step of every row.

    Args:
        xp: Array module.
        state: The rows'.
        config: The transducer's.
        blank: Id of the blank.
        transducer: Predictor and joint network.

    Returns:
        The next state, and labels (-1 for none), frames, durations and log-probabilities, (R,).
    """
    time, num_frames = state["time"], state["num_frames"]
    token_logits, duration_logits = transducer.logits(_here(xp, state), state)
    tokens, logprobs = most_likely(xp, token_logits)
    durations = _durations(xp, xp.argmax(duration_logits, axis=-1).astype(xp.int32), config)
    is_active, is_blank = time < num_frames, tokens == blank
    found = is_active & (tokens != blank)
    jumps = xp.where(is_blank, xp.maximum(durations, 1), durations)
    count = xp.where(found, xp.where(time == state["last"], state["count"] + 1, 1), state["count"])
    is_stuck = found & (jumps == 0) & (count >= config.max_symbols)
    jumps = xp.where(is_stuck, 1, jumps)
    after = state | {
        "time": xp.where(is_active, time + jumps, time),
        "last": xp.where(found, time, state["last"]),
        "count": count,
    }
    after |= transducer.read(tokens, found, state)
    return after, (xp.where(found, tokens, -1), time, durations, logprobs)


def most_likely(xp: Any, logits: Any) -> tuple[Any, Any]:
    """Return the most likely tokens (...) of logits (..., V), and their log-probabilities."""
    tokens = xp.argmax(logits, axis=-1).astype(xp.int32)
    highest = logits.max(axis=-1, keepdims=True)
    return tokens, -xp.log(xp.exp(logits - highest).sum(axis=-1))


def _here(xp: Any, state: RowState) -> Any:
    """Return the encoder's states (R, J) where the rows stand."""
    encoded, last = state["encoded"], state["num_frames"] - 1
    rows, length, width = encoded.shape
    here = xp.minimum(state["time"], xp.maximum(last, 0)) + length * xp.arange(rows)
    return encoded.reshape(rows * length, width)[here]


def _durations(xp: Any, index: Any, config: TransducerConfig) -> Any:
    """Return what the most likely durations (R,) stand for."""
    if config.durations == tuple(range(len(config.durations))):
        return index
    return xp.array(config.durations, dtype=xp.int32)[index]


def _lengthened(xp: Any, encoded: Any, length: int) -> Any:
    """Return states (R, frames, J) with room for `length` frames."""
    missing = length - encoded.shape[1]
    return xp.pad(encoded, [(0, 0), (0, missing), (0, 0)]) if missing > 0 else encoded
