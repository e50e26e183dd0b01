"""A step of a batch behind the network: logits become tokens, and tokens become the rows' own."""

from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from worker.device.beam_search import follow, search
from worker.device.filters import Stage, process_logits, sample_tokens
from worker.device.group import Group
from worker.device.rules import State, advance, apply_rules
from worker.device.speech_model import SpeechModel
from worker.device.top_tokens import highest


class StepKind(NamedTuple):
    """What a step is built for.

    Attributes:
        stages: What is done beside network and rules.
        num_beams: Rows of each window.
        length: Tokens that the cache has room for in each row.
    """

    stages: Stage
    num_beams: int
    length: int


class Chosen(NamedTuple):
    """What a step sampled, perhaps still on its way; arrays are (B, ...).

    Attributes:
        tokens: One a row.
        logprobs: Of the tokens; in a search, of all of a beam's tokens together.
        all_logprobs: Over the vocabulary, where they are kept.
        sources, ended: Of a search; see `worker.device.beam_search.Choice`.
    """

    tokens: mx.array
    logprobs: mx.array
    all_logprobs: mx.array | None = None
    sources: mx.array | None = None
    ended: mx.array | None = None


@dataclass(frozen=True)
class Chooser:
    """Turns logits into tokens, by each row's rules and sampling.

    Attributes:
        model: Weighs and normalises.
        keep_logprobs: Give the log-probabilities over the vocabulary, too.
    """

    model: SpeechModel
    keep_logprobs: bool

    def __call__(
        self, logits: mx.array, state: State, rules: State, sampling: State, kind: StepKind
    ) -> tuple[Chosen, State]:
        """Return what is chosen of raw logits (B, V), and the rows' state with it."""
        is_search = Stage.SEARCH in kind.stages
        count = kind.num_beams + 1 if is_search else 1
        if kind.stages in (Stage.NONE, Stage.SEARCH) and not self.keep_logprobs:
            values, ids = self.model.top_tokens(logits, state, rules, count)
            tokens, chosen, kept = ids[:, 0], values[:, 0], None
        else:
            logprobs = self._logprobs(logits, state, rules, sampling, kind.stages)
            kept = logprobs if self.keep_logprobs else None
            tokens = sample_tokens(logprobs, state["step"], sampling, kind.stages).astype(mx.int32)
            chosen = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
            values, ids = highest(logprobs, count) if is_search else (chosen, tokens)
        if not is_search:
            return Chosen(tokens, chosen, kept), advance(state, tokens, rules)
        found = search(values, ids, state)
        tokens = mx.where(state["is_search"], found.tokens, tokens)
        chosen = mx.where(state["is_search"], found.scores, chosen)
        state = advance(follow(state, found), tokens, rules)
        return Chosen(tokens, chosen, kept, found.sources, found.ended), state

    def _logprobs(
        self, logits: mx.array, state: State, rules: State, sampling: State, stages: Stage
    ) -> mx.array:
        """Return log-probabilities (B, V) after processors and rules."""
        lengths = state["position"] + 1
        logits = process_logits(logits, state["history"], lengths, sampling, stages)
        logits = apply_rules(logits, state, rules)
        return logits - self.model.log_normalizer(logits)


@dataclass(frozen=True)
class StepOutput:
    """What a dispatched step sampled for which windows; None for an empty place."""

    groups: list[Group | None]
    chosen: Chosen
    no_speech_probs: mx.array | None = None

    @property
    def arrays(self) -> list[mx.array]:
        """What is read at each step."""
        chosen = self.chosen
        read = (chosen.tokens, chosen.logprobs, chosen.sources, chosen.ended, self.no_speech_probs)
        return [each for each in read if each is not None]

    def give(self) -> list[Group]:
        """Give the tokens, which are there, to their windows; return those that end with them."""
        tokens, logprobs, *searched = (
            [] if each is None else np.array(each).tolist() for each in self._of_rows
        )
        probs = self.no_speech_probs
        no_speech_probs = None if probs is None else np.array(probs).tolist()
        ended: list[Group] = []
        for place, group in enumerate(self.groups):
            if group is None or group.has_ended:
                continue
            if no_speech_probs is not None:
                group.take_no_speech(no_speech_probs[place])
            first = place * group.size
            if group.hypotheses is not None:
                sources, ends = searched
                of_rows = slice(first, first + group.size)
                group.search_on(tokens[of_rows], logprobs[of_rows], sources[of_rows], ends[of_rows])
            else:
                group.take(tokens, logprobs, self.chosen.all_logprobs, first)
            if group.has_ended:
                ended.append(group)
        return ended

    @property
    def _of_rows(self) -> tuple[mx.array | None, ...]:
        chosen = self.chosen
        return chosen.tokens, chosen.logprobs, chosen.sources, chosen.ended
