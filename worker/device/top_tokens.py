"""The likeliest tokens of each row after its rules: all that a greedy step or a search needs to know.

Shapes: B rows, V vocabulary.
"""

from collections.abc import Callable

import mlx.core as mx

from worker.device.rules import NEVER, State, apply_rules

# Of the vocabulary: with five beams the maxima of the blocks are about as many as the tokens of the
# blocks that are looked at closely.
TOKENS_PER_BLOCK = 128


def top_tokens(
    logits: mx.array,
    state: State,
    rules: State,
    count: int,
    log_normalizer: Callable[[mx.array], mx.array],
) -> tuple[mx.array, mx.array]:
    """Return the log-probabilities and ids of the likeliest tokens, (B, count) each, descending.

    Equals are in the order of their ids. A row whose logits are not numbers, or all forbidden, has
    log-probabilities that are not finite.

    Args:
        logits: Raw, (B, V) float32.
        state: What the rows remember; see `worker.device.rules.start_state`.
        rules: See `worker.device.rules.BatchedRules`.
        count: At most V.
        log_normalizer: Returns log(sum(exp(logits))), (B, 1).
    """
    logits = apply_rules(logits, state, rules)
    if count == 1:
        tokens = mx.argmax(logits, axis=-1, keepdims=True).astype(mx.int32)
        values = mx.take_along_axis(logits, tokens, axis=-1)
    else:
        values, tokens = highest(logits, count)
    return values - log_normalizer(logits), tokens


def highest(values: mx.array, count: int) -> tuple[mx.array, mx.array]:
    """Return the highest values (B, count) of (B, V), descending, and where they are.

    Equals are in the order of their places; `count` is at most V. Of NaN anything is returned.
    Sorting whole vocabularies would take longer than the network: only the blocks with the highest
    maxima are sorted.
    """
    num_rows, num_vocab = values.shape
    size = TOKENS_PER_BLOCK
    num_blocks = -(-num_vocab // size)
    padding = num_blocks * size - num_vocab
    padded = mx.pad(values, [(0, 0), (0, padding)], constant_values=NEVER)
    blocks = padded.reshape(num_rows, num_blocks, size)
    chosen = mx.argsort(-blocks.max(axis=-1), axis=-1)[:, : min(count, num_blocks)]
    chosen = mx.sort(chosen, axis=-1).astype(mx.int32)
    closely = mx.take_along_axis(blocks, chosen[:, :, None], axis=1).reshape(num_rows, -1)
    places = (chosen[:, :, None] * size + mx.arange(size)).reshape(num_rows, -1)
    # Padding is chosen of NaN alone; whatever reads on from there must find a place.
    places = mx.minimum(places, num_vocab - 1)
    order = mx.argsort(-closely, axis=-1)[:, :count]
    return mx.take_along_axis(closely, order, axis=1), mx.take_along_axis(places, order, axis=1)
