"""Logits processors, sampling filters and the draw for a batch of rows, as functions of arrays.

Each takes one parameter per row, as an array (B, 1); rows whose parameter is neutral keep every
bit. All results are lazy, shapes are those of the input, and everything may run inside
`mx.compile`.

A transcription is greedy, draws (`Stage.DRAW`) or searches (`Stage.SEARCH`, see
`worker.device.beam_search`). All other stages serve the contract of one utterance (`worker.generate`).
"""

import enum
import functools
import operator
from collections.abc import Iterable, Mapping

import mlx.core as mx


class Stage(enum.Flag):
    """The steps that a row's parameters ask for; a decode step is compiled for their union."""

    NONE = 0
    LOGIT_BIAS = enum.auto()
    REPETITION = enum.auto()
    PRESENCE = enum.auto()
    FREQUENCY = enum.auto()
    TOP_P = enum.auto()
    MIN_P = enum.auto()
    MIN_KEEP = enum.auto()
    XTC = enum.auto()
    TOP_K = enum.auto()
    DRAW = enum.auto()
    SEARCH = enum.auto()

    PENALTIES = REPETITION | PRESENCE | FREQUENCY
    PROCESSORS = LOGIT_BIAS | PENALTIES


def union(stages: Iterable[Stage]) -> Stage:
    """Return all stages together."""
    return functools.reduce(operator.or_, stages, Stage.NONE)


def process_logits(
    logits: mx.array,
    history: mx.array,
    lengths: mx.array,
    arrays: Mapping[str, mx.array],
    stages: Stage,
) -> mx.array:
    """Apply bias and penalties to raw float32 logits.

    Args:
        logits: Of the model (B, V).
        history: Tokens of each row, prompt included (B, any length), padded at the end with
            anything.
        lengths: Number of tokens in each row's history (B,).
        arrays: From `BatchedSampling`.
        stages: From `BatchedSampling`; without a processor `logits` are returned.
    """
    if Stage.LOGIT_BIAS in stages:
        # Adding zero would turn -0.0 into 0.0; neutral rows keep every bit.
        bias = arrays["logit_bias"]
        logits = mx.where(bias != 0, logits + bias, logits)
    if Stage.REPETITION in stages:
        penalty = arrays["repetition_penalty"]
        seen = _occurrences(history, lengths, arrays["repetition_context_size"], logits) > 0
        penalised = mx.where(logits < 0, logits * penalty, logits / penalty)
        logits = mx.where(seen & (penalty != 1), penalised, logits)
    if Stage.PRESENCE in stages:
        penalty = arrays["presence_penalty"]
        seen = _occurrences(history, lengths, arrays["presence_context_size"], logits) > 0
        logits = mx.where(seen & (penalty != 0), logits - penalty, logits)
    if Stage.FREQUENCY in stages:
        penalty = arrays["frequency_penalty"]
        counts = _occurrences(history, lengths, arrays["frequency_context_size"], logits)
        logits = mx.where((counts > 0) & (penalty != 0), logits - penalty * counts, logits)
    return logits


def sample_tokens(
    logprobs: mx.array, step: mx.array, arrays: Mapping[str, mx.array], stages: Stage
) -> mx.array:
    """Choose a token for each row: the most likely one, or a draw after the row's filters.

    Args:
        logprobs: Normalised float32 log-probabilities (B, V).
        step: Index of the token in its row (B,), so that a row's randomness does not depend on
            when it joined.
        arrays: From `BatchedSampling`.
        stages: From `BatchedSampling`.

    Returns:
        Token ids (B,) as uint32.
    """
    if Stage.DRAW not in stages:
        return mx.argmax(logprobs, axis=-1)
    keys = _step_keys(arrays["stream_keys"], step)
    filtered = logprobs
    if Stage.TOP_P in stages:
        filtered = _top_p(filtered, arrays["top_p"])
    if Stage.MIN_P in stages:
        keep = arrays["min_tokens_to_keep"] if Stage.MIN_KEEP in stages else None
        filtered = _min_p(filtered, arrays["log_min_p"], keep)
    if Stage.XTC in stages:
        chance = mx.vmap(lambda key: mx.random.uniform(shape=(1,), key=key))(keys[:, 1])
        filtered = _xtc(filtered, chance, arrays)
    if Stage.TOP_K in stages:
        filtered = mx.where(_most_likely(filtered, arrays["top_k"]), filtered, -mx.inf)
    # argmax(x / T + gumbel) is a categorical draw (Gumbel-max trick). Multiplied by T, it needs no
    # division by a small T.
    temperature = arrays["temperature"]
    noise = mx.vmap(lambda key: mx.random.gumbel(logprobs.shape[1:], key=key))(keys[:, 0])
    drawn = filtered + temperature * noise
    return mx.argmax(mx.where(temperature > 0, drawn, logprobs), axis=-1)


def _step_keys(stream_keys: mx.array, step: mx.array) -> mx.array:
    """Return the step's keys (B, 2 streams, 2); under one seed no two steps have the same."""
    steps = step.astype(mx.uint32)[:, None]
    return stream_keys ^ mx.concatenate([mx.zeros_like(steps), steps], axis=1)[:, None]


def _occurrences(
    history: mx.array, lengths: mx.array, context_size: mx.array, logits: mx.array
) -> mx.array:
    """Count each token within the last `context_size` (B, 1) tokens of its row: (B, V)."""
    position = mx.arange(history.shape[1])[None]
    end = lengths[:, None]
    is_recent = (position < end) & (position >= end - context_size)
    rows = mx.arange(history.shape[0])[:, None]
    tokens = mx.where(is_recent, history, 0)
    return mx.zeros_like(logits).at[rows, tokens].add(is_recent.astype(logits.dtype))


def _top_p(logprobs: mx.array, top_p: mx.array) -> mx.array:
    """Keep the most likely tokens up to mass `top_p`, and all that equal the last one."""
    ordered = mx.sort(logprobs, axis=-1)
    probs = mx.exp(ordered)
    mass_above = mx.cumsum(probs, axis=-1, reverse=True, inclusive=False)
    total = mass_above[:, :1] + probs[:, :1]
    num_dropped = (mass_above >= top_p * total).sum(axis=-1, keepdims=True)
    # Otherwise a row of -inf alone would drop even its last token.
    last = mx.minimum(num_dropped, logprobs.shape[1] - 1)
    return mx.where(logprobs < mx.take_along_axis(ordered, last, axis=-1), -mx.inf, logprobs)


def _min_p(logprobs: mx.array, log_min_p: mx.array, keep: mx.array | None) -> mx.array:
    """Drop tokens below min-p times the top probability, except the `keep` most likely."""
    dropped = logprobs < logprobs.max(axis=-1, keepdims=True) + log_min_p
    if keep is not None:
        dropped = dropped & ~_most_likely(logprobs, keep)
    return mx.where(dropped, -mx.inf, logprobs)


def _xtc(logprobs: mx.array, chance: mx.array, arrays: Mapping[str, mx.array]) -> mx.array:
    """Drop all tokens above the threshold but the least likely of them.

    Only in rows whose `chance` (B, 1), uniform in [0, 1), is at most their probability of XTC.
    """
    probs = mx.softmax(logprobs, axis=-1)
    likely = mx.where(probs > arrays["xtc_threshold"], probs, mx.inf)
    dropped = (probs > likely.min(axis=-1, keepdims=True)) & ~arrays["xtc_special"]
    return mx.where(dropped & (chance <= arrays["xtc_probability"]), -mx.inf, logprobs)


def _most_likely(logprobs: mx.array, count: mx.array) -> mx.array:
    """Return a mask of exactly `count` (B, 1) tokens a row; among equals the lowest ids."""
    smallest = mx.take_along_axis(mx.sort(logprobs, axis=-1), logprobs.shape[1] - count, axis=-1)
    above = logprobs > smallest
    equal = logprobs == smallest
    num_equal = count - above.sum(axis=-1, keepdims=True)
    return above | (equal & (mx.cumsum(equal.astype(mx.int32), axis=-1) <= num_equal))
