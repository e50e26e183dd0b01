"""What the fused decode is asked and what it answers: plain records, no tensors of their own."""

from dataclasses import dataclass
from typing import Any

from worker.engine.requests import Rows


@dataclass(frozen=True)
class TimestampRules:
    """Ids that the timestamp rules turn on, and the latest first timestamp.

    Attributes:
        eot: End of text; lower ids are text.
        begin: `<|0.00|>`; this id and higher ones are timestamps.
        max_initial_index: The first timestamp is at most this many steps of 0.02 s; None: any.
    """

    eot: int
    begin: int
    max_initial_index: int | None = 50


@dataclass(frozen=True)
class RowRules:
    """What one row of a decode may sample.

    Attributes:
        suppress: Ids never sampled.
        suppress_first: Ids never sampled first.
        timestamps: None decodes without the timestamp rules.
    """

    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    timestamps: TimestampRules | None = None


@dataclass(frozen=True)
class Decoded:
    """The tokens of one row, without the end of text, and how sure the model was."""

    tokens: tuple[int, ...]
    sum_logprob: float
    no_speech_prob: float

    @property
    def avg_logprob(self) -> float:
        """Mean log-probability, the end of text counted."""
        return self.sum_logprob / (len(self.tokens) + 1)


@dataclass(frozen=True)
class BeamSearch:
    """How many hypotheses of a window are followed, and how many are to be finished.

    Attributes:
        size: Beams, at least 1.
        patience: The search ends once `round(size * patience)` hypotheses are finished
            (arXiv:2204.05424).
    """

    size: int
    patience: float = 1.0

    @property
    def num_wanted(self) -> int:
        """Finished hypotheses that end the search."""
        return round(self.size * self.patience)


@dataclass(frozen=True)
class Decode(Rows[list[Decoded]]):
    """Decode one window's tokens; the reply is one `Decoded` for each sample or hypothesis.

    All of them share the window's audio; its prompt is read once.

    Attributes:
        encoder_states: The window's, as the device gave them.
        prompt: Tokens that are read, not sampled.
        sot_index: Where in the prompt `no_speech` is weighed.
        no_speech: Token whose probability there says that nobody speaks.
        eot: End of text.
        max_tokens: Most tokens that are sampled.
        seeds: One sample each; sampling at a temperature depends on nothing else.
        search: Follow beams instead; then there are no samples, temperature or seeds.
    """

    encoder_states: Any
    prompt: tuple[int, ...]
    sot_index: int
    no_speech: int
    eot: int
    max_tokens: int
    rules: RowRules
    temperature: float
    seeds: tuple[int, ...]
    search: BeamSearch | None = None
