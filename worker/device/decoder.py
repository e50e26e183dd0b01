"""The fused batched decode: rows of unrelated windows advance together, one token a step.

A row joins with its prompt, stands at its own position, follows its own rules and sampling, and
leaves at its own end; the others do not notice. Step n + 1 is on its way to the device before the
tokens of step n are read, and reading them is the only host sync of a step.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from producer.errors import LengthMismatch
from worker.device.batch import Batch
from worker.device.filters import Stage, process_logits, sample_tokens
from worker.device.row import Row
from worker.device.rules import BatchedRules, State, advance, apply_rules, start_state
from worker.device.sampling import BatchedSampling
from worker.device.speech_model import SpeechModel, check_logits, check_prefill_logits

# Prompts are right-padded to the next of these, so that prefill shapes are few.
PROMPT_STEP = 32
SHORT_PROMPT = 4


@dataclass(frozen=True)
class StepOutput:
    """What a dispatched step sampled for which rows, perhaps still on its way; arrays are (B, ...)."""

    rows: list[Row | None]
    tokens: mx.array
    logprobs: mx.array
    all_logprobs: mx.array | None
    no_speech_probs: mx.array | None = None


class Decoder:
    """Steps a batch of rows; it knows windows, not recordings.

    Arrays whose shape varies from batch to batch are evaluated separately from a step: MLX's CUDA
    backend caches one graph for each sequence of kernels (400 of them), and a varying array would
    make each graph that it is a part of a new one.

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
        self._keep_logprobs = keep_logprobs
        self._steps: dict[tuple[Stage, int], Callable[..., Any]] = {}
        self._batch = Batch(model, max_rows, pad_rows=pad_rows)
        self._unread: list[StepOutput] = []
        self.wait_s = 0.0
        """Seconds spent waiting for the device, here and in no other thread."""

    @property
    def num_active(self) -> int:
        """Rows that are still decoding."""
        return self._batch.num_active

    @property
    def num_rows(self) -> int:
        """Rows that a step computes, empty ones included."""
        return len(self._batch.rows)

    @property
    def num_free(self) -> int:
        """Rows that may join."""
        return self.max_rows - self.num_active

    def insert(self, rows: list[Row]) -> None:
        """Let rows join: read their prompts and sample their first tokens.

        Raises:
            LengthMismatch: more rows than may join, or logits for other rows than asked.
            RankMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        if len(rows) > self.num_free:
            raise LengthMismatch("decode: rows", f"at most {self.num_free} may join", len(rows))
        output, cache, state = self._prefill(rows)
        self._start(output.tokens, output.logprobs, output.no_speech_probs, cache, state)
        self._unread.append(output)
        self._batch.join(rows, cache, state)
        self._start(*self._batch.arrays)
        for row in rows:
            row.num_dispatched += 1

    def dispatch(self) -> None:
        """Start the next step of all rows, without waiting for anything.

        Raises:
            RankMismatch, LengthMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        batch = self._batch
        if not batch.num_active:
            return
        if batch.fit_rows():
            self._start(*batch.arrays)
        if batch.fit_length():
            self._start(*batch.arrays)
        step = self._step_for(batch.sampling.stages, batch.length)
        tokens, logprobs, all_logprobs, batch.state, batch.cache = step(*batch.arrays)
        self._start(tokens, logprobs, batch.state, batch.cache)
        self._unread.append(StepOutput(list(batch.rows), tokens, logprobs, all_logprobs))
        for row in batch.rows:
            if row is not None:
                row.num_dispatched += 1

    def collect(self, *, keep: int = 0) -> list[Row]:
        """Read the dispatched steps, all but the last `keep`, and return the rows that ended."""
        num_read = max(0, len(self._unread) - keep)
        read, self._unread = self._unread[:num_read], self._unread[num_read:]
        ended = [row for output in read for row in self._read(output)]
        self._leave(ended)
        return ended

    def step(self) -> list[Row]:
        """Dispatch the next step, read an earlier one, and return the rows that ended."""
        self.dispatch()
        return self.collect(keep=self.steps_ahead if self.num_active else 0)

    def remove(self, row: Row) -> None:
        """Let a row leave before its end."""
        if row.finish_reason is None:
            row.finish_reason = "removed"
        self._leave([row])

    def _start(self, *arrays: Any) -> None:
        """Hand work to the device; MLX's CPU backend lets the caller wait while it has enough."""
        started, busy = time.perf_counter(), time.thread_time()
        mx.async_eval(*arrays)
        self.wait_s += time.perf_counter() - started - (time.thread_time() - busy)

    def _read(self, output: StepOutput) -> list[Row]:
        """Give a step's tokens to its rows; this waits for the device."""
        started = time.perf_counter()
        tokens: list[int] = np.array(output.tokens).tolist()
        self.wait_s += time.perf_counter() - started
        logprobs: list[float] = np.array(output.logprobs).tolist()
        no_speech = output.no_speech_probs
        no_speech_probs = [] if no_speech is None else np.array(no_speech).tolist()
        ended: list[Row] = []
        for place, row in enumerate(output.rows):
            if row is None or row.finish_reason is not None:
                continue
            if no_speech_probs:
                row.no_speech_prob = no_speech_probs[place]
            row.all_logprobs = None if output.all_logprobs is None else output.all_logprobs[place]
            row.append(tokens[place], logprobs[place])
            if row.finish_reason is not None:
                ended.append(row)
        return ended

    def _leave(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self._batch.leave(row):
                self._start(self._batch.sampling.arrays)

    def _prefill(self, rows: Sequence[Row]) -> tuple[StepOutput, Any, State]:
        """Read the prompts of rows that join, and sample their first tokens."""
        prompts = [row.prompt for row in rows]
        # Uploads first: on CUDA one may wait for all that was handed over before it.
        padded = mx.array(_pad(prompts), mx.int32)
        at = mx.array([(row.sot_index, len(row.prompt) - 1) for row in rows], mx.int32)
        weighed = mx.array([row.no_speech_token or 0 for row in rows])[:, None]
        state = start_state(prompts, self.model.context_length)
        sampling = BatchedSampling([row.sampling for row in rows], self.model.num_vocab)
        rules = BatchedRules([row.rules for row in rows], self.model.num_vocab)
        encoder_states = mx.stack([row.encoder_states for row in rows])
        self._start(encoder_states, state, sampling.arrays, rules.arrays)
        logits, cache = self.model.prefill(encoder_states, padded, at)
        check_prefill_logits(logits, len(rows), self.model.num_vocab)
        tokens, logprobs, all_logprobs, state = self._choose(
            logits[:, 1], state, rules.arrays, sampling.arrays, sampling.stages
        )
        at_sot = logits[:, 0]
        no_speech = mx.take_along_axis(at_sot, weighed, axis=1) - self.model.log_normalizer(at_sot)
        probabilities = mx.exp(no_speech[:, 0])
        output = StepOutput(list(rows), tokens, logprobs, all_logprobs, probabilities)
        return output, cache, state

    def _step_for(self, stages: Stage, length: int) -> Callable[..., Any]:
        """Return the step of these sampling stages and this cache length, built once."""
        kind = (stages, length)
        if kind not in self._steps:
            self._steps[kind] = self._build_step(stages, length)
        return self._steps[kind]

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
        logits = process_logits(logits, state["history"], state["position"] + 1, sampling, stages)
        logits = apply_rules(logits, state, rules)
        logprobs = logits - self.model.log_normalizer(logits)
        tokens = sample_tokens(logprobs, state["step"], sampling, stages).astype(mx.int32)
        chosen = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)[:, 0]
        kept = logprobs if self._keep_logprobs else None
        return tokens, chosen, kept, advance(state, tokens, rules)


def _pad(prompts: list[tuple[int, ...]]) -> list[list[int]]:
    """Right-pad prompts to one of few lengths; causal attention keeps padding out of the result."""
    longest = max(len(prompt) for prompt in prompts)
    length = SHORT_PROMPT if longest <= SHORT_PROMPT else -(-longest // PROMPT_STEP) * PROMPT_STEP
    return [[*prompt, *[0] * (length - len(prompt))] for prompt in prompts]
