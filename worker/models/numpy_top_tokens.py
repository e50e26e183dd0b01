"""The likeliest tokens of each row after its rules, in NumPy: `worker.device.top_tokens` by rows.

A row is read near a core, a few times in all, and what the timestamp rules forbid are ranges of ids
there. One thread does it: NumPy's calls are so short here that two would wait for the interpreter's
lock longer than they compute (16 rows: 2.5 ms, and 1.4 ms with one).
"""

from typing import Any, NamedTuple, TypeAlias

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from worker.device.rules import ALWAYS, FIRST, NEVER, UNPAIRED, State
from worker.models.numpy_math import FloatArray, log_sum_exp, shared

IdArray: TypeAlias = NDArray[np.signedinteger[Any]]

# Values whose highest is found first; there are more such sets than anybody asks for tokens.
VALUES_PER_SET = 128


class RowPast(NamedTuple):
    """What a row's rules depend on; see `worker.device.rules`, whose arrays have these names."""

    on: bool
    begin: int
    last_initial: int
    mask_of_row: int
    step: int
    ended: bool
    ended_before: bool
    last_timestamp: int

    @property
    def mask(self) -> int:
        """Which of the masks is the row's now."""
        if self.step == 0:
            return self.mask_of_row + FIRST
        return self.mask_of_row + (UNPAIRED if self.ended and not self.ended_before else ALWAYS)


def top_tokens(
    logits: mx.array, state: State, rules: State, count: int
) -> tuple[FloatArray, IdArray]:
    """Return the likeliest tokens of each row; see `worker.device.top_tokens.top_tokens`."""
    known = {**rules, **state}
    each, masks, *facts = shared(logits, rules["masks"], *(known[name] for name in RowPast._fields))
    rows = [RowPast(*row) for row in zip(*(fact.tolist() for fact in facts), strict=True)]
    values = np.empty((len(each), count), np.float32)
    tokens = np.empty((len(each), count), np.int32)
    allowed = np.empty_like(each[0])
    for row, past in enumerate(rows):
        np.add(each[row], masks[past.mask], out=allowed)
        first = forbid_timestamps(allowed, past)
        tokens[row] = highest(allowed, count, first)
        values[row] = allowed[tokens[row]] - _log_normalizer(allowed[first:])
    return values, tokens


def forbid_timestamps(allowed: FloatArray, row: RowPast) -> int:
    """Set to -inf what the timestamp rules forbid of masked logits (V,).

    Returns:
        An id below which everything is forbidden.
    """
    if not row.on or row.begin >= len(allowed):
        return 0
    text, times = allowed[: row.begin], allowed[row.begin :]
    if row.ended and row.ended_before:
        times[:] = NEVER
    earliest = row.last_timestamp + (0 if row.ended and not row.ended_before else 1)
    times[: max(0, earliest - row.begin)] = NEVER
    if row.step == 0:
        times[max(0, row.last_initial + 1 - row.begin) :] = NEVER
    if log_sum_exp(times) > text.max(initial=NEVER):
        text[:] = NEVER
        return row.begin
    return 0


def highest(values: FloatArray, count: int, first: int = 0) -> IdArray:
    """Return where the highest of (V,) are, (count,): see `worker.device.top_tokens.highest`.

    All before `first` are -inf.
    """
    if count == 1:
        return np.array([first + values[first:].argmax()])
    # So many values at least are not below the last of these maxima.
    num_sets = max(count, len(values) // VALUES_PER_SET)
    whole = len(values) // num_sets * num_sets
    maxima = values[:whole].reshape(-1, num_sets).max(axis=0)
    places = np.flatnonzero(values >= np.partition(maxima, -count)[-count])
    if len(places) < count:  # some are no numbers
        return np.arange(count)
    found: IdArray = places[np.argsort(-values[places], kind="stable")[:count]]
    return found


def _log_normalizer(allowed: FloatArray) -> np.float32:
    """Return log(sum(exp(allowed))); the values are overwritten."""
    peak = allowed.max()
    allowed -= peak
    np.exp(allowed, out=allowed)
    total: np.float32 = np.log(allowed.sum()) + peak
    return total
