"""One row of a decode: what was asked of it, what it sampled, and how it ended."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import mlx.core as mx

from producer.errors import NonFinite, ScribefarmError
from worker.device.decode_request import RowRules
from worker.device.rules import NO_RULES
from worker.device.sampling_params import GREEDY, SamplingParams

FinishReason: TypeAlias = Literal["stop", "length", "error", "removed"]


@dataclass(eq=False)
class Row:
    """One row's past and future: what was asked, what was sampled, how it ended.

    Attributes:
        prompt: Token ids that are read, not sampled.
        encoder_states: Of the window, without the row axis.
        eos: Ids that end the row.
        max_tokens: The row ends after this many sampled tokens.
        sot_index: Position in the prompt at which `no_speech_token` is weighed.
        tokens: Sampled ids, the ending one included.
        logprobs: Their log-probabilities after rules, before temperature.
        all_logprobs: The last step's over the vocabulary (V,), lazy, if the decoder keeps them.
    """

    prompt: tuple[int, ...]
    encoder_states: mx.array
    eos: frozenset[int]
    max_tokens: int
    sampling: SamplingParams = GREEDY
    rules: RowRules = NO_RULES
    sot_index: int = 0
    no_speech_token: int | None = None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    no_speech_prob: float = math.nan
    all_logprobs: mx.array | None = None
    finish_reason: FinishReason | None = None
    error: ScribefarmError | None = None

    def take(
        self, token: int, logprob: float, all_logprobs: mx.array | None = None, place: int = 0
    ) -> None:
        """Take a step of the batch that this row has a place in, unless it has ended."""
        if self.finish_reason is not None:
            return
        self.all_logprobs = None if all_logprobs is None else all_logprobs[place]
        if not math.isfinite(logprob):
            self.fail(NonFinite("decode: logits", "must be finite", logprob))
            return
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in self.eos:
            self.finish_reason = "stop"
        elif len(self.tokens) >= self.max_tokens:
            self.finish_reason = "length"

    def fail(self, error: ScribefarmError) -> None:
        """End with an error."""
        self.error = error
        self.finish_reason = "error"
