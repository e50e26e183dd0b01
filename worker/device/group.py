"""Rows that are decoded side by side because they are of one window."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import mlx.core as mx

from producer.errors import NonFinite, ScribefarmError
from worker.device.decode_request import BeamSearch
from worker.device.hypotheses import Hypotheses
from worker.device.row import Row


@dataclass(eq=False)
class Group:
    """The rows of one window: one alone, samples, or the beams of a search.

    They share the window's audio and prompt, join and leave together, and stand at one position.

    Attributes:
        rows: Samples, each with its own end. Of a search all are alike, and only the first one's
            end and error are the search's.
        hypotheses: Of a search.
        has_ended: Whether no row goes on.
        joined_at: Steps that its batch had started when it joined.
    """

    rows: Sequence[Row]
    hypotheses: Hypotheses | None = None
    has_ended: bool = False
    joined_at: int = 0

    @classmethod
    def of_beams(cls, asked: Row, search: BeamSearch) -> "Group":
        """Return the beams of a search; `asked` says of what."""
        return cls([_copy(asked) for _ in range(search.size)], Hypotheses(search))

    @classmethod
    def of(cls, asked: Row) -> "Group":
        """Return a window of one row, a copy of `asked`, of which nothing was sampled yet."""
        return cls([_copy(asked)])

    @property
    def first(self) -> Row:
        """What is asked: window, prompt, ends and number of tokens are the same for all rows."""
        return self.rows[0]

    @property
    def size(self) -> int:
        """Rows, ended ones included."""
        return len(self.rows)

    @property
    def is_plain(self) -> bool:
        """Return whether it is one row, without a search."""
        return self.size == 1 and self.hypotheses is None

    @property
    def eot(self) -> int:
        """What ends a hypothesis; -1 without a search."""
        return min(self.first.eos, default=-1) if self.hypotheses else -1

    @property
    def error(self) -> ScribefarmError | None:
        """What the first row to fail ended with."""
        return next((row.error for row in self.rows if row.error is not None), None)

    def take_no_speech(self, probability: float) -> None:
        """Note how probable it is that nobody speaks in the window."""
        for row in self.rows:
            row.no_speech_prob = probability

    def take(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        all_logprobs: mx.array | None,
        first: int,
    ) -> None:
        """Take a step of rows that do not search; theirs start at `first`."""
        is_open = False
        for at, row in enumerate(self.rows, first):
            row.take(tokens[at], logprobs[at], all_logprobs, at)
            is_open = is_open or row.finish_reason is None
        self.has_ended = not is_open

    def remove(self) -> None:
        """End what has not ended."""
        self.has_ended = True
        for row in self.rows:
            if row.finish_reason is None:
                row.finish_reason = "removed"

    def search_on(
        self,
        tokens: Sequence[int],
        scores: Sequence[float],
        sources: Sequence[int],
        ended: Sequence[float],
    ) -> None:
        """Take a step of a search, and end if enough is found or nothing more may be sampled."""
        row, hypotheses = self.first, self.hypotheses
        if hypotheses is None or self.has_ended:
            return
        if any(math.isnan(score) for score in scores):
            row.fail(NonFinite("decode: logits", "must be finite", math.nan))
        else:
            hypotheses.append(tokens, scores, sources, ended)
            if hypotheses.is_complete:
                row.finish_reason = "stop"
            elif hypotheses.num_tokens >= row.max_tokens:
                row.finish_reason = "length"
        self.has_ended = row.finish_reason is not None


def _copy(asked: Row) -> Row:
    return replace(asked, tokens=[], logprobs=[])
