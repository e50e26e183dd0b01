"""What a Whisper window is asked: its prompt, and which tokens it may answer with."""

from collections.abc import Sequence

from producer.job import Options
from worker.device.decode_request import RowRules, TimestampRules
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.vocabulary import TIMESTAMP_S


def row_rules(tokenizer: Tokenizer, options: Options) -> RowRules:
    """Return what may be sampled: the reference's suppression sets and timestamp rules."""
    suppress = {token for token in options.suppress_tokens if token >= 0}
    if options.suppress_tokens:
        suppress |= set(tokenizer.suppressed_tokens)
    if -1 not in options.suppress_tokens:
        suppress -= set(tokenizer.non_speech_tokens) - set(options.suppress_tokens)
    first = {*tokenizer.encode(" "), tokenizer.eot} if options.suppress_blank else set()
    if options.without_timestamps:
        return RowRules(tuple(sorted(suppress)), tuple(sorted(first)))
    latest = options.max_initial_timestamp
    timestamps = TimestampRules(
        eot=tokenizer.eot,
        begin=tokenizer.timestamp_begin,
        max_initial_index=None if latest is None else round(latest / TIMESTAMP_S),
    )
    suppress.add(tokenizer.no_timestamps)
    return RowRules(tuple(sorted(suppress)), tuple(sorted(first)), timestamps)


def window_prompt(
    tokenizer: Tokenizer,
    options: Options,
    text_tokens: Sequence[int],
    reset_since: int,
    context_length: int,
) -> tuple[tuple[int, ...], int]:
    """Return a window's prompt and the position of `sot` in it.

    Args:
        tokenizer: Of the recording's language and task.
        options: Initial prompt, hotwords, timestamps.
        text_tokens: All tokens of the segments so far.
        reset_since: How many tokens, the initial prompt's included, are not to be looked at.
        context_length: Of the decoder; half of it is for the prompt.
    """
    room = context_length // 2 - 1
    initial = _encoded(tokenizer, options.initial_prompt)
    hotwords = _encoded(tokenizer, options.hotwords)[: room - 1]
    history = [*initial, *text_tokens]
    if options.carry_initial_prompt:
        recent = history[max(len(initial), reset_since) :]
        previous = initial + _last(recent, room - len(initial))
    else:
        previous = history[reset_since:]
    previous = hotwords + _last(previous, room - len(hotwords))
    start = (
        tokenizer.sot_sequence_including_notimestamps
        if options.without_timestamps
        else tokenizer.sot_sequence
    )
    before = (tokenizer.sot_prev, *previous) if previous else ()
    return (*before, *start), len(before)


def num_initial_tokens(tokenizer: Tokenizer, options: Options) -> int:
    """Return the length of the initial prompt, which the history starts with."""
    return len(_encoded(tokenizer, options.initial_prompt))


def _encoded(tokenizer: Tokenizer, text: str | None) -> list[int]:
    return tokenizer.encode(" " + text.strip()) if text else []


def _last(tokens: list[int], count: int) -> list[int]:
    return tokens[-count:] if count > 0 else []
