"""One step of greedy TDT decoding, and the rows that take it: the same code for MLX and NumPy.

A step evaluates the joint network once for each row, where the row stands. A blank moves it on by
the duration; a label is read by the predictor, and moves the row on by its duration, which may be 0.
Row by row this finds what NeMo's label looping finds (`tdt_label_looping.py`), which takes the same
steps in another order:

- a blank of duration 0 moves on by 1;
- a row that has found `max_symbols` labels in a frame and still stands there moves on by 1;
- a row has ended when it stands past its last frame.

`xp` is `mlx.core` or `numpy`. R rows, T frames, J joint width, L layers of H in the predictor.
"""

from collections.abc import Callable, Sequence
from typing import Any

from worker.models.parakeet.config import Config
from worker.models.parakeet.network_base import RowState

NO_FRAME = -1


def start_rows(
    xp: Any, encoded: Sequence[Any], num_frames: Sequence[int], start: tuple[Any, Any, Any]
) -> RowState:
    """Return rows that have found nothing.

    Args:
        xp: Array module.
        encoded: Projected states of each, (frames, J).
        num_frames: Frames of each.
        start: The predictor's projected output (1, J), hidden and cell state (1, L, H).
    """
    count = len(encoded)
    length = max(each.shape[0] for each in encoded)
    predicted, hidden, cell = (xp.repeat(each, count, axis=0) for each in start)
    zeros = xp.zeros((count,), xp.int32)
    return {
        "encoded": xp.stack([_lengthened(xp, each[None], length)[0] for each in encoded]),
        "num_frames": xp.array(num_frames, dtype=xp.int32),
        "time": zeros,
        "predicted": predicted,
        "hidden": hidden,
        "cell": cell,
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
    xp: Any,
    state: RowState,
    config: Config,
    joint: Callable[[Any, Any], Any],
    predict: Callable[..., tuple[Any, Any, Any]],
) -> tuple[RowState, tuple[Any, Any, Any, Any]]:
    """Take one step of every row.

    Args:
        xp: Array module.
        state: The rows'.
        config: With a transducer.
        joint: Returns float32 logits (R, V + 1 + durations) of states and outputs, each (R, J).
        predict: Returns projected outputs (R, J) and states after labels (R,), given both states
            and which rows have found one.

    Returns:
        The next state, and labels (-1 for none), frames, durations and log-probabilities, (R,).
    """
    head = config.transducer
    assert head is not None  # noqa: S101 for mypy; CTC models take no steps
    time, num_frames = state["time"], state["num_frames"]
    here = xp.clip(time, 0, xp.maximum(num_frames - 1, 0))
    encoded = xp.take_along_axis(state["encoded"], here[:, None, None], axis=1)[:, 0]
    logits = joint(encoded, state["predicted"])
    tokens, logprobs = most_likely(xp, logits[:, : config.blank + 1])
    durations = xp.array(head.durations, dtype=xp.int32)[
        xp.argmax(logits[:, config.blank + 1 :], axis=-1)
    ]
    is_active = time < num_frames
    is_blank = tokens == config.blank
    found = is_active & ~is_blank
    jumps = xp.where(is_blank, xp.maximum(durations, 1), durations)
    count = xp.where(found, xp.where(time == state["last"], state["count"] + 1, 1), state["count"])
    last = xp.where(found, time, state["last"])
    is_stuck = found & (jumps == 0) & (count >= head.max_symbols)
    jumps = xp.where(is_stuck, 1, jumps)
    predicted, hidden, cell = predict(tokens, state["hidden"], state["cell"], found)
    after = state | {
        "time": xp.where(is_active, time + jumps, time),
        "predicted": xp.where(found[:, None], predicted, state["predicted"]),
        "hidden": xp.where(found[:, None, None], hidden, state["hidden"]),
        "cell": xp.where(found[:, None, None], cell, state["cell"]),
        "last": last,
        "count": count,
    }
    return after, (xp.where(found, tokens, -1), time, durations, logprobs)


def most_likely(xp: Any, logits: Any) -> tuple[Any, Any]:
    """Return the most likely tokens (...) of logits (..., V), and their log-probabilities."""
    tokens = xp.argmax(logits, axis=-1).astype(xp.int32)
    highest = xp.take_along_axis(logits, tokens[..., None], axis=-1)
    return tokens, -xp.log(xp.exp(logits - highest).sum(axis=-1))


def _lengthened(xp: Any, encoded: Any, length: int) -> Any:
    """Return states (R, frames, J) with room for `length` frames."""
    missing = length - encoded.shape[1]
    return xp.pad(encoded, [(0, 0), (0, missing), (0, 0)]) if missing > 0 else encoded
