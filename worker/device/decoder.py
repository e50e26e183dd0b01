"""The fused batched decode: rows of unrelated windows advance together, one token a step.

A row joins with its prompt, stands at its own position, follows its own rules and sampling, and
leaves at its own end; the others do not notice. Step n + 1 is on its way to the device before the
tokens of step n are read, and reading them is the only host sync of a step.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from producer.errors import LengthMismatch
from worker.device.filters import Stage, process, sample
from worker.device.row import Sequence
from worker.device.rules import (
    BatchedRules,
    State,
    advance,
    apply_rules,
    start_state,
)
from worker.device.sampling import BatchedSampling
from worker.device.speech_model import SpeechModel, check_logits, check_prefill_logits

# Prompts are right-padded to the next of these, so that prefill shapes are few.
PROMPT_STEP = 32
SHORT_PROMPT = 4
# Caches are as long as their longest row needs, in these steps: attention reads all of it.
LENGTH_STEP = 128


@dataclass(frozen=True)
class StepOutput:
    """What a dispatched step sampled for which rows, perhaps still on its way; arrays are (B, ...)."""

    rows: list[Sequence | None]
    tokens: mx.array
    logprobs: mx.array
    all_logprobs: mx.array | None
    no_speech_probs: mx.array | None = None


class Decoder:
    """Rows of a batch, their cache and their positions; it knows windows, not recordings.

    The number of rows grows when rows join and shrinks when half have left, so that no step pays
    for many empty rows.

    Args:
        model: Pinned weights.
        max_rows: Most windows decoded together.
        compile_step: Fuse the step with `mx.compile`; the result is the same.
        pad_rows: Compute a power of two of rows, so that few shapes are ever seen.
        steps_ahead: Steps that are on their way when one is read; each costs a row that has
            ended one step more, and gives the host as long as a step for its own work.
        keep_logprobs: Give every step's log-probabilities over the vocabulary, lazily.
    """

    def __init__(
        self,
        model: SpeechModel,
        max_rows: int,
        *,
        compile_step: bool = False,
        pad_rows: bool = True,
        steps_ahead: int = 1,
        keep_logprobs: bool = False,
    ) -> None:
        self.model = model
        self.steps_ahead = steps_ahead
        self.max_rows = max_rows
        self._compile_step = compile_step
        self._pad_rows = pad_rows
        self._keep_logprobs = keep_logprobs
        self._steps: dict[tuple[Stage, int], Callable[..., Any]] = {}
        self._rows: list[Sequence | None] = []
        self._waiting: list[StepOutput] = []
        self._cache: Any = None
        self._length = 0
        self._state: State = {}
        self.wait_s = 0.0
        """Seconds spent waiting for the device, here and in no other thread."""

    @property
    def num_active(self) -> int:
        """Rows that are still decoding."""
        return len(self._rows) - self._rows.count(None)

    @property
    def num_rows(self) -> int:
        """Rows that a step computes, empty ones included."""
        return len(self._rows)

    @property
    def num_free(self) -> int:
        """Rows that may join."""
        return self.max_rows - self.num_active

    def insert(self, sequences: list[Sequence]) -> None:
        """Let rows join: read their prompts and sample their first tokens.

        Raises:
            LengthMismatch: more sequences than free rows, or logits for other rows than asked.
            RankMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        if len(sequences) > self.num_free:
            raise LengthMismatch(
                "decode: rows", f"at most {self.num_free} may join", len(sequences)
            )
        output, cache, state = self._prefill(sequences)
        self._start(output.tokens, output.logprobs, output.no_speech_probs, cache, state)
        self._waiting.append(output)
        self._place(sequences, cache, state)
        self._start_batch()
        for sequence in sequences:
            sequence.num_dispatched += 1

    def dispatch(self) -> None:
        """Start the next step of all rows, without waiting for anything.

        Raises:
            RankMismatch, LengthMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        if not self.num_active:
            return
        if 2 * self.num_active <= self.num_rows:
            self._resize(self.num_active)
            self._start_batch()
        self._fit_length()
        stages = self._sampling.stages
        kind = (stages, self._length)
        if kind not in self._steps:
            self._steps[kind] = self._build_step(*kind)
        tokens, logprobs, all_logprobs, self._state, self._cache = self._steps[kind](
            self._cache, self._state, self._rules.arrays, self._sampling.arrays
        )
        self._start(tokens, logprobs, self._state, self._cache)
        self._waiting.append(StepOutput(list(self._rows), tokens, logprobs, all_logprobs))
        for sequence in self._rows:
            if sequence is not None:
                sequence.num_dispatched += 1

    def collect(self, *, keep: int = 0) -> list[Sequence]:
        """Read the dispatched steps, all but the last `keep`, and return the rows that ended."""
        num_read = max(0, len(self._waiting) - keep)
        read, self._waiting = self._waiting[:num_read], self._waiting[num_read:]
        ended = [sequence for output in read for sequence in self._read(output)]
        self._leave(ended)
        return ended

    def step(self) -> list[Sequence]:
        """Dispatch the next step, read an earlier one, and return the rows that ended."""
        self.dispatch()
        return self.collect(keep=self.steps_ahead if self.num_active else 0)

    def remove(self, sequence: Sequence) -> None:
        """Let a row leave before its end."""
        if sequence.finish_reason is None:
            sequence.finish_reason = "removed"
        self._leave([sequence])

    def _start(self, *arrays: Any) -> None:
        """Hand work to the device; MLX's CPU backend lets the caller wait while it has enough.

        MLX's CUDA backend keeps a graph for each sequence of kernels that it was handed at once,
        400 of them. What is seldom the same twice is handed over by itself, or every graph that it
        is a part of would be new.
        """
        started, busy = time.perf_counter(), time.thread_time()
        mx.async_eval(*arrays)
        self.wait_s += time.perf_counter() - started - (time.thread_time() - busy)

    def _start_batch(self) -> None:
        """Hand over what has changed of the batch."""
        self._start(self._cache, self._state, self._rules.arrays, self._sampling.arrays)

    def _read(self, output: StepOutput) -> list[Sequence]:
        """Give a step's tokens to its rows; this waits for the device."""
        started = time.perf_counter()
        tokens: list[int] = np.array(output.tokens).tolist()
        self.wait_s += time.perf_counter() - started
        logprobs: list[float] = np.array(output.logprobs).tolist()
        no_speech = output.no_speech_probs
        no_speech_probs = [] if no_speech is None else np.array(no_speech).tolist()
        ended: list[Sequence] = []
        for row, sequence in enumerate(output.rows):
            if sequence is None or sequence.finish_reason is not None:
                continue
            if no_speech_probs:
                sequence.no_speech_prob = no_speech_probs[row]
            sequence.all_logprobs = (
                None if output.all_logprobs is None else output.all_logprobs[row]
            )
            sequence.append(tokens[row], logprobs[row])
            if sequence.finish_reason is not None:
                ended.append(sequence)
        return ended

    def _leave(self, sequences: Iterable[Sequence]) -> None:
        for sequence in sequences:
            if sequence in self._rows:
                row = self._rows.index(sequence)
                self._rows[row] = None
                self._sampling.clear_row(row)
                self._start(self._sampling.arrays)

    def _prefill(self, sequences: list[Sequence]) -> tuple[StepOutput, Any, State]:
        """Read the prompts of rows that join, and sample their first tokens."""
        prompts = [sequence.prompt for sequence in sequences]
        # Uploads first: on CUDA one may wait for all that was handed over before it.
        padded = mx.array(_pad(prompts), mx.int32)
        at = mx.array([(row.sot_index, len(row.prompt) - 1) for row in sequences], mx.int32)
        weighed = mx.array([row.no_speech_token or 0 for row in sequences])[:, None]
        state = start_state(prompts, self.model.context_length)
        sampling = BatchedSampling([row.sampling for row in sequences], self.model.num_vocab)
        rules = BatchedRules([row.rules for row in sequences], self.model.num_vocab)
        states = mx.stack([row.states for row in sequences])
        self._start(states, state, sampling.arrays, rules.arrays)
        logits, cache = self.model.prefill(states, padded, at)
        check_prefill_logits(logits, len(sequences), self.model.num_vocab)
        tokens, logprobs, all_logprobs, state = self._choose(
            logits[:, 1], state, rules.arrays, sampling.arrays, sampling.stages
        )
        at_sot = logits[:, 0]
        no_speech = mx.take_along_axis(at_sot, weighed, axis=1) - self.model.log_normalizer(at_sot)
        output = StepOutput(
            list(sequences), tokens, logprobs, all_logprobs, mx.exp(no_speech[:, 0])
        )
        return output, cache, state

    def _place(self, sequences: list[Sequence], cache: Any, state: State) -> None:
        """Give rows that join a place in the batch."""
        length = self._length_for(sequences)
        cache = self.model.resize_cache(cache, length)
        if self.num_active == 0:
            self._rows, self._cache, self._state = list(sequences), cache, state
            self._length = length
            self._resize(len(sequences))
            return
        if length != self._length:
            self._cache, self._length = self.model.resize_cache(self._cache, length), length
        wanted = self.num_active + len(sequences)
        if wanted > self.num_rows:
            self._resize(wanted)
        slots = [row for row, taken in enumerate(self._rows) if taken is None][: len(sequences)]
        first = slots[0]
        is_run = slots == list(range(first, first + len(slots)))
        # MLX scatters one element at a time on a CPU; most often a single row joins.
        index = slice(first, first + len(slots)) if is_run else mx.array(slots)

        def write(rows: mx.array, joining: mx.array) -> mx.array:
            rows[index] = joining
            return rows

        self._cache, self._state = tree_map(write, (self._cache, self._state), (cache, state))
        for slot, sequence in zip(slots, sequences, strict=True):
            self._rows[slot] = sequence
            self._sampling.set_row(slot, sequence.sampling)
        self._rules.set_rows(dict(zip(slots, (s.rules for s in sequences), strict=True)))

    def _length_for(self, joining: list[Sequence]) -> int:
        """Return the cache length for the active rows and these."""
        rows = [row for row in self._rows if row is not None]
        longest = max(sequence.length for sequence in (*rows, *joining)) + 1
        return min(self.model.context_length, -(-longest // LENGTH_STEP) * LENGTH_STEP)

    def _fit_length(self) -> None:
        """Make room for one more token in the longest row."""
        length = self._length_for([])
        if length > self._length:
            self._cache, self._length = self.model.resize_cache(self._cache, length), length
            self._start_batch()

    def _resize(self, wanted: int) -> None:
        """Move the active rows into a batch that holds `wanted`; the rest repeat a row, unread."""
        size = min(self.max_rows, 1 << (wanted - 1).bit_length()) if self._pad_rows else wanted
        active = [row for row, sequence in enumerate(self._rows) if sequence is not None]
        empty = size - len(active)
        if active != list(range(size)) or size != len(self._rows):
            index = mx.array(active + active[:1] * empty)
            self._cache, self._state = tree_map(
                lambda rows: rows[index], (self._cache, self._state)
            )
        self._rows = [self._rows[row] for row in active] + [None] * empty
        sequences = [self._rows[row] or self._rows[0] for row in range(size)]
        self._rules = BatchedRules([s.rules for s in sequences if s], self.model.num_vocab)
        sampling = [row.sampling for row in self._rows if row is not None]
        self._sampling = BatchedSampling(sampling, self.model.num_vocab, num_rows=size)

    def _build_step(self, stages: Stage, length: int) -> Callable[..., Any]:
        def step(cache: Any, state: State, rules: State, sampling: State) -> tuple[Any, ...]:
            # A row that has ended but was not read yet, or an empty one, may stand past the end.
            at = mx.minimum(state["position"], length - 1)
            logits, cache = self.model.decode_step(state["token"], at, cache)
            check_logits(logits, state["token"].shape[0], self.model.num_vocab)
            return (*self._choose(logits, state, rules, sampling, stages), cache)

        return mx.compile(step) if self._compile_step else step

    def _choose(
        self, logits: mx.array, state: State, rules: State, sampling: State, stages: Stage
    ) -> tuple[mx.array, mx.array, mx.array | None, State]:
        """Turn raw logits (B, V) into tokens and their log-probabilities, and the next state."""
        logits = process(logits, state["history"], state["position"] + 1, sampling, stages)
        logits = apply_rules(logits, state, rules)
        logprobs = logits - self.model.log_normalizer(logits)
        tokens = sample(logprobs, state["step"], sampling, stages).astype(mx.int32)
        chosen = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
        kept = logprobs if self._keep_logprobs else None
        return tokens, chosen, kept, advance(state, tokens, rules)


def _pad(prompts: list[tuple[int, ...]]) -> list[list[int]]:
    """Right-pad prompts to one of few lengths; causal attention keeps padding out of the result."""
    longest = max(len(prompt) for prompt in prompts)
    length = SHORT_PROMPT if longest <= SHORT_PROMPT else -(-longest // PROMPT_STEP) * PROMPT_STEP
    return [[*prompt, *[0] * (length - len(prompt))] for prompt in prompts]
