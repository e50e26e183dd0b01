"""The fused batched decode: rows of unrelated windows advance together, one token a step.

A window joins with its prompt, stands at its own position, follows its own rules and sampling, and
leaves at its own end; the others do not notice. It has one row, several samples, or the beams of a
search, all over one copy of its audio. Windows with as many rows are a batch. Step n + 1 of all
batches is on its way to the device before the tokens of step n are read, and reading them is the
only host sync of a step.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import mlx.core as mx

from producer.errors import LengthMismatch
from worker.device.batch import Batch
from worker.device.filters import Stage
from worker.device.group import Group
from worker.device.row import Row
from worker.device.rules import BatchedRules, State, fork_state, start_state
from worker.device.sampling import BatchedSampling
from worker.device.speech_model import SpeechModel, check_logits, check_prefill_logits
from worker.device.step import Chooser, Chosen, StepKind, StepOutput

# Prompts are right-padded to the next of these, so that prefill shapes are few.
PROMPT_STEP = 32
SHORT_PROMPT = 4


# Rows of a window, and whether it is one row without a search: those need to remember less.
Kind: TypeAlias = tuple[int, bool]


class Decoder:
    """Steps batches of windows; it knows windows, not recordings.

    Arrays whose shape varies from batch to batch are evaluated apart from a step, so that a step is
    always one of few sequences of kernels.

    Args:
        model: Pinned weights.
        max_rows: Most rows decoded together: windows, their samples, their beams.
        max_windows: Most windows decoded together; as many as rows if it is not said.
        compile_step: Fuse the step with `mx.compile`; the result is the same.
        pad_rows: Compute a power of two of windows, so that few shapes are ever seen.
        steps_ahead: Steps that are on their way when one is read; each costs a window that has
            ended one step more, and gives the host as long as a step for its own work.
        keep_logprobs: Give every step's log-probabilities over the vocabulary, lazily.
    """

    def __init__(
        self,
        model: SpeechModel,
        max_rows: int,
        max_windows: int | None = None,
        *,
        compile_step: bool = False,
        pad_rows: bool = True,
        steps_ahead: int = 1,
        keep_logprobs: bool = False,
    ) -> None:
        self.model = model
        self.steps_ahead = steps_ahead
        self.max_rows = max_rows
        self.max_windows = max_windows or max_rows
        self._compile_step = compile_step
        self._pad_rows = pad_rows
        self._choose = Chooser(model, keep_logprobs)
        self._steps: dict[StepKind, Callable[..., Any]] = {}
        self._batches: dict[Kind, Batch] = {}
        self._unread: list[list[StepOutput]] = []
        self.wait_s = 0.0
        """Seconds spent waiting for the device, here and in no other thread."""

    @property
    def num_active(self) -> int:
        """Rows that are still decoding."""
        return sum(batch.num_windows * batch.num_beams for batch in self._batches.values())

    @property
    def num_windows(self) -> int:
        """Windows that are still decoding."""
        return sum(batch.num_windows for batch in self._batches.values())

    @property
    def num_rows(self) -> int:
        """Rows that a step computes, empty ones included."""
        return sum(batch.num_rows for batch in self._batches.values())

    @property
    def num_free(self) -> int:
        """Windows of one row that may join."""
        return min(self.max_rows - self.num_active, self.max_windows - self.num_windows)

    def has_room(self, groups: Sequence[Group]) -> bool:
        """Return whether windows may join."""
        more_rows = sum(group.size for group in groups)
        return more_rows <= self.max_rows - self.num_active and len(groups) <= self.num_free

    def insert(self, rows: Sequence[Row]) -> None:
        """Let windows of one row join; see `insert_groups`."""
        self.insert_groups([Group([row]) for row in rows])

    def insert_groups(self, groups: Sequence[Group]) -> None:
        """Let windows join: read their prompts and sample their first tokens.

        Raises:
            LengthMismatch: more rows than may join, or logits for other rows than asked.
            RankMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        if not self.has_room(groups):
            asked = sum(group.size for group in groups)
            limit = f"at most {self.num_free} may join"
            raise LengthMismatch("decode: rows", limit, asked)
        by_kind: dict[Kind, list[Group]] = {}
        for group in groups:
            by_kind.setdefault((group.size, group.is_plain), []).append(group)
        # Batches that are empty give their memory to those that are not.
        kept = self._batches.items()
        self._batches = {kind: each for kind, each in kept if kind in by_kind or each.num_windows}
        self._unread.append([self._join(kind, each) for kind, each in by_kind.items()])

    def dispatch(self) -> None:
        """Start the next step of all rows, without waiting for anything.

        Raises:
            RankMismatch, LengthMismatch, EmptyInput: the model returned logits of a wrong shape.
        """
        batches = [batch for batch in self._batches.values() if batch.num_windows]
        if batches:
            self._unread.append([self._dispatch(batch) for batch in batches])

    def collect(self, *, keep: int = 0) -> list[Group]:
        """Read the dispatched steps, all but the last `keep`, and return the windows that ended."""
        num_read = max(0, len(self._unread) - keep)
        read, self._unread = self._unread[:num_read], self._unread[num_read:]
        ended = [group for outputs in read for group in self._read(outputs)]
        self._leave(ended)
        return ended

    def step(self) -> list[Group]:
        """Dispatch the next step, read an earlier one, and return the windows that ended."""
        self.dispatch()
        return self.collect(keep=self.steps_ahead if self.num_active else 0)

    def remove(self, row: Row) -> None:
        """Let a window that has this row leave before its end."""
        for batch in self._batches.values():
            for group in batch.groups:
                if group is not None and row in group.rows:
                    self.remove_group(group)
                    return
        Group([row]).remove()

    def remove_group(self, group: Group) -> None:
        """Let a window leave before its end."""
        group.remove()
        self._leave([group])

    def _start(self, *arrays: Any) -> None:
        """Hand work to the device; MLX's CPU backend lets the caller wait while it has enough."""
        started, busy = time.perf_counter(), time.thread_time()
        mx.async_eval(*arrays)
        self.wait_s += time.perf_counter() - started - (time.thread_time() - busy)

    def _join(self, kind: Kind, groups: list[Group]) -> StepOutput:
        """Let windows of one kind join its batch."""
        num_beams, _ = kind
        output, cache, state = self._prefill(groups)
        self._start(output.arrays, cache, state)
        if kind not in self._batches:
            most = max(1, min(self.max_windows, self.max_rows // num_beams))
            self._batches[kind] = Batch(self.model, most, num_beams, pad_rows=self._pad_rows)
        batch = self._batches[kind]
        batch.join(groups, cache, state)
        self._start(*batch.arrays)
        return output

    def _dispatch(self, batch: Batch) -> StepOutput:
        """Start the next step of a batch."""
        if batch.fit_rows():
            self._start(*batch.arrays)
        if batch.fit_length():
            self._start(*batch.arrays)
        step = self._step_for(StepKind(batch.stages, batch.num_beams, batch.length))
        chosen, batch.state, batch.cache = step(*batch.arrays)
        output = StepOutput(list(batch.groups), Chosen(*chosen))
        self._start(output.arrays, batch.state, batch.cache)
        batch.dispatched()
        return output

    def _read(self, outputs: Sequence[StepOutput]) -> list[Group]:
        """Give a step's tokens to its windows; this waits for the device, once for all batches."""
        started = time.perf_counter()
        mx.eval([output.arrays for output in outputs])
        self.wait_s += time.perf_counter() - started
        return [group for output in outputs for group in output.give()]

    def _leave(self, groups: Iterable[Group]) -> None:
        for group in groups:
            for batch in self._batches.values():
                if batch.leave(group):
                    self._start(batch.sampling.arrays)

    def _prefill(self, groups: Sequence[Group]) -> tuple[StepOutput, Any, State]:
        """Read the prompts of windows that join, once each, and sample their rows' first tokens."""
        asked, num_beams = [group.first for group in groups], groups[0].size
        rows = [row for group in groups for row in group.rows]
        prompts = [row.prompt for row in asked]
        # Uploads first: on CUDA one may wait for all that was handed over before it.
        padded = mx.array(_pad(prompts), mx.int32)
        at = mx.array([(row.sot_index, len(row.prompt) - 1) for row in asked], mx.int32)
        weighed = mx.array([row.no_speech_token or 0 for row in asked])[:, None]
        state = start_state(prompts, self.model.context_length)
        if not groups[0].is_plain:
            searches = [group.hypotheses is not None for group in groups]
            state = fork_state(state, num_beams, searches, [group.eot for group in groups])
        sampling = BatchedSampling([row.sampling for row in rows], self.model.num_vocab)
        rules = BatchedRules([row.rules for row in rows], self.model.num_vocab)
        encoder_states = mx.stack([row.encoder_states for row in asked])
        self._start(encoder_states, state, sampling.arrays, rules.arrays)
        logits, cache = self.model.prefill(encoder_states, padded, at)
        check_prefill_logits(logits, len(groups), self.model.num_vocab)
        first = logits[:, 1]
        if num_beams > 1:
            first, cache = (
                mx.repeat(first, num_beams, axis=0),
                self.model.fork_cache(cache, num_beams),
            )
        searched = any(group.hypotheses for group in groups)
        stages = sampling.stages | (Stage.SEARCH if searched else Stage.NONE)
        kind = StepKind(stages, num_beams, padded.shape[1])
        chosen, state = self._choose(first, state, rules.arrays, sampling.arrays, kind)
        at_sot = logits[:, 0]
        no_speech = mx.take_along_axis(at_sot, weighed, axis=1) - self.model.log_normalizer(at_sot)
        return StepOutput(list(groups), chosen, mx.exp(no_speech[:, 0])), cache, state

    def _step_for(self, kind: StepKind) -> Callable[..., Any]:
        """Return the step of a kind, built once."""
        if kind not in self._steps:
            self._steps[kind] = self._build_step(kind)
        return self._steps[kind]

    def _build_step(self, kind: StepKind) -> Callable[..., Any]:
        def step(cache: Any, state: State, rules: State, sampling: State) -> tuple[Any, ...]:
            # A row that has ended but was not read yet, or an empty one, may stand past the end.
            at = mx.minimum(state["position"], kind.length - 1)
            ancestors = state["ancestors"][:, : kind.length] if kind.num_beams > 1 else None
            logits, cache = self.model.decode_step(state["token"], at, cache, ancestors)
            check_logits(logits, state["token"].shape[0], self.model.num_vocab)
            chosen, state = self._choose(logits, state, rules, sampling, kind)
            return tuple(chosen), state, cache

        return mx.compile(step) if self._compile_step else step


def _pad(prompts: list[tuple[int, ...]]) -> list[list[int]]:
    """Right-pad prompts to one of few lengths; causal attention keeps padding out of the result."""
    longest = max(len(prompt) for prompt in prompts)
    length = SHORT_PROMPT if longest <= SHORT_PROMPT else -(-longest // PROMPT_STEP) * PROMPT_STEP
    return [[*prompt, *[0] * (length - len(prompt))] for prompt in prompts]
