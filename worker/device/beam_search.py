"""A step of beam search as tensor work: which beams go on with which tokens, and which end.

What openai-whisper's `BeamSearchDecoder` (decoding.py) does with dicts and a sort for each window,
for all windows at once and without a host sync: the likeliest tokens of each beam, the likeliest
sequences of each window, and a beam's end of text where it ranks before its window's last kept one.

Shapes: G windows of K beams, B = G K rows, V vocabulary. Among equals the reference's order decides,
that of its insertions: lower beam, then likelier token; equal tokens of one beam by their id.
"""

from typing import NamedTuple

import mlx.core as mx

from worker.device.rules import NEVER, State

# Below all that is possible but above what does not count; the reference ranks -inf, too.
_LEAST = -3e38


class Choice(NamedTuple):
    """What a step chose, (B,) each.

    Attributes:
        tokens: Next token of each beam.
        scores: Sum of the log-probabilities with it; NaN if the window's logits are NaN.
        sources: Beam of the same window, 0 to K - 1, that goes on with it.
        ended: Sum of the log-probabilities with which a beam, as it was before, ended; else NaN.
    """

    tokens: mx.array
    scores: mx.array
    sources: mx.array
    ended: mx.array


def search(values: mx.array, tokens: mx.array, state: State) -> Choice:
    """Choose how windows go on.

    Args:
        values: Log-probabilities after rules of each beam's K + 1 likeliest tokens, (B, K + 1)
            float32, descending; a window's K beams side by side.
        tokens: Which these are.
        state: See `worker.device.rules.fork_state`; not changed.
    """
    count = values.shape[1]
    num_beams = count - 1
    # A window's candidates side by side, (G, K (K + 1)), in the order of the reference's dict.
    scores = (state["score"][:, None] + values).reshape(-1, num_beams * count)
    tokens = tokens.reshape(scores.shape)
    # All beams are the same before the first token: one of them counts.
    is_kept = (state["step"] > 0) | (state["beam"] == 0)
    counts = mx.repeat(is_kept[:, None], count, axis=1).reshape(scores.shape)
    is_end = tokens == mx.repeat(state["eot"][:, None], count, axis=1).reshape(scores.shape)
    ranked = mx.where(counts, mx.maximum(scores, _LEAST), NEVER)

    order = mx.argsort(-mx.where(is_end, NEVER, ranked), axis=-1)[:, :num_beams]
    ended = _ended(ranked, scores, is_end & counts, order)
    # Of logits that are numbers, normalised, the highest is finite.
    is_broken = is_kept & (state["score"] > NEVER) & ~mx.isfinite(values[:, 0])
    is_broken = is_broken.reshape(-1, num_beams).any(axis=-1, keepdims=True)
    kept = mx.where(is_broken, mx.nan, mx.take_along_axis(scores, order, axis=1))
    return Choice(
        tokens=mx.take_along_axis(tokens, order, axis=1).reshape(-1).astype(mx.int32),
        scores=kept.reshape(-1),
        sources=(order // count).reshape(-1).astype(mx.int32),
        ended=ended.reshape(-1),
    )


def follow(state: State, choice: Choice) -> State:
    """Return the state of rows that took the place of others, before their tokens are added."""
    row = mx.arange(state["beam"].size, dtype=mx.int32)
    is_search = state["is_search"]
    source = mx.where(is_search, row - state["beam"] + choice.sources, row)
    moved = ("last_timestamp", "ended", "ended_before", "history", "ancestors")
    score = mx.where(is_search, choice.scores, state["score"])
    return {**state, **{name: state[name][source] for name in moved}, "score": score}


def _ended(ranked: mx.array, scores: mx.array, is_end: mx.array, order: mx.array) -> mx.array:
    """Return the scores (G, K) of beams that end before their window's last kept beam; else NaN."""
    num_windows, num_beams = order.shape
    at = mx.arange(ranked.shape[1])
    last = order[:, -1:]
    bar = mx.take_along_axis(ranked, last, axis=1)
    is_before = (ranked > bar) | ((ranked == bar) & (at < last))
    # A token is once among a beam's candidates.
    of_beams = mx.where(is_end & is_before, mx.maximum(scores, _LEAST), NEVER)
    best = of_beams.reshape(num_windows, num_beams, -1).max(axis=-1)
    return mx.where(best == NEVER, mx.nan, best)
