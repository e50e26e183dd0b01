"""Whisper's logit rules as tensor work: each row of a batch by its own history, without a host sync.

The rules and their order are openai-whisper's (`SuppressBlank`, `SuppressTokens`,
`ApplyTimestampRules` in its decoding.py). The two points that MLX ports get wrong are marked.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from producer.errors import OutOfRange
from worker.device.decode_request import RowRules, TimestampRules

State: TypeAlias = dict[str, mx.array]

NEVER = float("-inf")
# Rows of `suppression_masks`: what a row may not sample ever, as its first token, and while the
# timestamp that it sampled last waits for its pair.
ALWAYS, FIRST, UNPAIRED = range(3)
NUM_MASKS = 3

NO_RULES = RowRules()
_MAX_ID = np.iinfo(np.int32).max


def start_state(prompts: Sequence[Sequence[int]], context_length: int) -> State:
    """Return what rows remember of themselves, before their first sampled token.

    Every array has rows on its first axis: the row's last `token` and its `position`, `step`
    tokens sampled so far, the `last_timestamp` id or -1, whether the last two sampled tokens were
    timestamps (`ended`, and `ended_before`, true while there are fewer than two), and all tokens,
    prompt included, in `history`, one place longer than the context.
    """
    num_rows = len(prompts)
    tokens = np.zeros((num_rows, context_length + 1), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    history = mx.array(tokens)
    position = mx.array([len(prompt) - 1 for prompt in prompts], mx.int32)
    return {
        "token": mx.take_along_axis(history, position[:, None], axis=1)[:, 0],
        "position": position,
        "step": mx.zeros(num_rows, mx.int32),
        "last_timestamp": mx.full(num_rows, -1, mx.int32),
        "ended": mx.zeros(num_rows, mx.bool_),
        "ended_before": mx.ones(num_rows, mx.bool_),
        "history": history,
    }


def advance(state: State, token: mx.array, rules: State) -> State:
    """Return the state after `token` (B,) was sampled."""
    is_timestamp = token >= rules["begin"]
    position = state["position"] + 1
    # A row that has ended but was not read yet runs on; its writes stay inside the history.
    place = mx.minimum(position, state["history"].shape[1] - 1)
    return {
        **advance_beams(state, place),
        "token": token,
        "position": position,
        "step": state["step"] + 1,
        "last_timestamp": mx.where(is_timestamp, token, state["last_timestamp"]),
        "ended": is_timestamp,
        "ended_before": (state["step"] == 0) | state["ended"],
        "history": mx.put_along_axis(state["history"], place[:, None], token[:, None], axis=1),
    }


def fork_state(
    state: State, num_beams: int, searches: Sequence[bool], eots: Sequence[int]
) -> State:
    """Return a state with `num_beams` rows for each of its own, which are its window's.

    Rows remember more then: the sum of their log-probabilities in `score`, whether and till which
    token they search (`is_search`, `eot`), and in `ancestors`, as long as the history, which of
    its window's beams a row had each token from.
    """
    forked = {name: mx.repeat(each, num_beams, axis=0) for name, each in state.items()}
    return {
        **forked,
        "score": mx.zeros(forked["token"].shape, mx.float32),
        "is_search": mx.repeat(mx.array(list(searches), mx.bool_), num_beams),
        "eot": mx.repeat(mx.array(list(eots), mx.int32), num_beams),
        "ancestors": mx.zeros_like(forked["history"]),
        "beam": mx.tile(mx.arange(num_beams, dtype=mx.int32), len(searches)),
    }


def advance_beams(state: State, place: mx.array) -> State:
    """Return what rows of windows with several remember, after a token at `place` (B,) is theirs."""
    if "beam" not in state:
        return {}
    own = {name: state[name] for name in ("score", "is_search", "eot", "beam")}
    ancestors = mx.put_along_axis(
        state["ancestors"], place[:, None], state["beam"][:, None], axis=1
    )
    return {**own, "ancestors": ancestors}


class BatchedRules:
    """The rules of the rows of a batch, as arrays with rows on the first axis."""

    def __init__(self, rows: Sequence[RowRules], num_vocab: int) -> None:
        self.num_vocab = num_vocab
        self._rows = list(rows)
        self.arrays = self._upload()

    def set_rows(self, rules: dict[int, RowRules]) -> None:
        """Give rows other rules, from the next step on."""
        changed = {row: wanted for row, wanted in rules.items() if self._rows[row] != wanted}
        for row, wanted in changed.items():
            self._rows[row] = wanted
        if changed:
            self.arrays = self._upload()

    def _upload(self) -> State:
        """Return one (B,) array a bound, and the masks of the rows' different suppression sets."""
        suppressed = [_suppressed(row) for row in self._rows]
        sets = list(dict.fromkeys(suppressed))
        bounds = [_bounds(row.timestamps) for row in self._rows]
        chosen = [NUM_MASKS * sets.index(each) for each in suppressed]
        # One upload for all of it: each costs a device much more than its few bytes.
        # By columns, so that each one's numbers lie side by side.
        columns = [*zip(*bounds, strict=True), chosen] if bounds else [[]] * 4
        on, begin, last_initial, mask_of_row = mx.array(np.array(columns, np.int32))
        first_timestamp = min((row[1] for row in bounds), default=_MAX_ID)
        masks = [suppression_masks(self.num_vocab, *ids) for ids in sets]
        return {
            "on": on == 1,
            "begin": begin,
            "last_initial": last_initial,
            # One set for all rows is the rule: then nothing is copied.
            "masks": masks[0] if len(masks) == 1 else mx.concatenate(masks),
            "tail_ids": mx.arange(min(first_timestamp, self.num_vocab), self.num_vocab),
            "mask_of_row": mask_of_row,
        }


def _suppressed(rules: RowRules) -> tuple[tuple[int, ...], tuple[int, ...], TimestampRules | None]:
    """Return what a row's masks depend on."""
    timestamps = rules.timestamps and replace(rules.timestamps, max_initial_index=None)
    return rules.suppress, rules.suppress_first, timestamps


def _bounds(rules: TimestampRules | None) -> tuple[int, int, int]:
    """Return whether the timestamp rules are on, 0.00, and the highest id that may come first."""
    if rules is None:
        return 0, _MAX_ID, 0
    latest = rules.max_initial_index
    return 1, rules.begin, _MAX_ID if latest is None else rules.begin + latest


@functools.lru_cache(maxsize=32)
def suppression_masks(
    num_vocab: int,
    suppress: tuple[int, ...],
    suppress_first: tuple[int, ...],
    timestamps: TimestampRules | None = None,
) -> mx.array:
    """Return what is added to logits, (NUM_MASKS, V): `ALWAYS`, `FIRST` and `UNPAIRED`.

    Raises:
        OutOfRange: an id that the vocabulary lacks.
    """
    wrong = [token for token in (*suppress, *suppress_first) if not 0 <= token < num_vocab]
    if wrong:
        raise OutOfRange("rules: suppress_tokens", f"ids must be in [0, {num_vocab})", wrong[0])
    masks = np.zeros((NUM_MASKS, num_vocab), np.float32)
    masks[:, list(suppress)] = NEVER
    masks[FIRST, list(suppress_first)] = NEVER
    if timestamps is not None:
        masks[FIRST, : timestamps.begin] = NEVER
        # End of text and above stay allowed: the recording may end inside a segment.
        masks[UNPAIRED, : timestamps.eot] = NEVER
    return mx.array(masks)


def apply_rules(logits: mx.array, state: State, rules: State) -> mx.array:
    """Return logits (B, V), float32, with what the rules forbid at -inf."""
    is_unpaired = state["ended"] & ~state["ended_before"]
    kind = mx.where(state["step"] == 0, FIRST, mx.where(is_unpaired, UNPAIRED, ALWAYS))
    logits = logits + rules["masks"][rules["mask_of_row"] + kind]
    num_text = logits.shape[1] - rules["tail_ids"].size
    if num_text == logits.shape[1]:
        return logits
    text, tail = logits[:, :num_text], logits[:, num_text:]
    is_timestamp = rules["tail_ids"] >= rules["begin"][:, None]
    forbidden = is_timestamp & _forbidden_timestamps(rules["tail_ids"], state, rules)
    tail = mx.where(forbidden, NEVER, tail)
    due = _timestamp_is_due(text, tail, is_timestamp, rules)
    text, tail = mx.where(due, NEVER, text), mx.where(due & ~is_timestamp, NEVER, tail)
    return mx.concatenate([text, tail], axis=-1)


def _forbidden_timestamps(ids: mx.array, state: State, rules: State) -> mx.array:
    """Return where timestamp ids (N,) are forbidden, (B, N): by pairing, order, and the latest first.

    By the timestamp's value: a segment never ends before it starts, and never at its start.
    """
    ended, closed = state["ended"][:, None], state["ended_before"][:, None]
    earliest = state["last_timestamp"][:, None] + mx.where(ended & ~closed, 0, 1)
    is_first = (state["step"] == 0)[:, None]
    is_late = is_first & (ids > rules["last_initial"][:, None])
    return ((ended & closed) | (ids < earliest) | is_late) & rules["on"][:, None]


def _timestamp_is_due(
    text: mx.array, tail: mx.array, is_timestamp: mx.array, rules: State
) -> mx.array:
    """Return rows (B, 1) where all timestamps together are likelier than the likeliest text.

    Compared on logits that are masked already, as the reference does: on unmasked ones a row
    could lose every token it has.
    """
    mass = mx.logsumexp(mx.where(is_timestamp, tail, NEVER), axis=-1, keepdims=True)
    best_text = mx.maximum(
        text.max(axis=-1, keepdims=True),
        mx.where(is_timestamp, NEVER, tail).max(axis=-1, keepdims=True),
    )
    return (mass > best_text) & rules["on"][:, None]
