"""What one window's beam search has found so far, as the host keeps it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from worker.device.decode_request import BeamSearch


class Hypothesis(NamedTuple):
    """Tokens that were found, without the end of text, and the sum of log-probabilities with it."""

    tokens: tuple[int, ...]
    sum_logprob: float


@dataclass(eq=False)
class Hypotheses:
    """Finished hypotheses of a window, and the way back along its beams.

    The order is openai-whisper's (`BeamSearchDecoder`): of those that end with the same token of the
    window the likelier first, and among equals the lower beam.

    Attributes:
        asked: How many beams there are, and how many hypotheses are wanted.
        finished: In the order in which they were found.
        scores: Of the beams, the latest step's.
    """

    asked: BeamSearch
    finished: list[Hypothesis] = field(default_factory=list)
    scores: Sequence[float] = ()
    _steps: list[tuple[Sequence[int], Sequence[int]]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens in each beam."""
        return len(self._steps)

    @property
    def is_complete(self) -> bool:
        """Return whether enough hypotheses are finished."""
        return len(self.finished) >= self.asked.num_wanted

    def append(
        self,
        tokens: Sequence[int],
        scores: Sequence[float],
        sources: Sequence[int],
        ended: Sequence[float],
    ) -> None:
        """Take a step of all beams; see `worker.device.beam_search.Choice`."""
        found = [beam for beam, score in enumerate(ended) if not math.isnan(score)]
        for beam in sorted(found, key=lambda beam: -ended[beam]):
            if not self.is_complete:
                self.finished.append(Hypothesis(self._tokens_of(beam), ended[beam]))
        self._steps.append((tokens, sources))
        self.scores = scores

    def candidates(self) -> list[Hypothesis]:
        """Return what is finished, filled up with the likeliest beams to as many as there are."""
        likeliest = sorted(range(len(self.scores)), key=lambda beam: self.scores[beam])[::-1]
        missing = max(0, self.asked.size - len(self.finished))
        return [
            *self.finished,
            *(Hypothesis(self._tokens_of(beam), self.scores[beam]) for beam in likeliest[:missing]),
        ]

    def _tokens_of(self, beam: int) -> tuple[int, ...]:
        """Return the tokens of a beam, from its last back to its first."""
        tokens = []
        for step, sources in reversed(self._steps):
            tokens.append(step[beam])
            beam = sources[beam]
        return tuple(reversed(tokens))
