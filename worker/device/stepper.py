"""The stepper of families that decode token by token: requests wait for rows of one decoder."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from producer.errors import OutOfMemory, ScribefarmError
from worker.device.backend import on_gpu, translated_errors
from worker.device.decode_request import Decode, Decoded
from worker.device.decoder import Decoder
from worker.device.group import Group
from worker.device.row import Row
from worker.device.sampling_params import GREEDY, SamplingParams
from worker.device.speech_model import SpeechModel

Outcome = list[Decoded] | ScribefarmError


@dataclass(eq=False)
class Candidates:
    """The rows of one `Decode`, its samples or beams, and the key it was added with.

    Attributes:
        groups: One, or as many as its samples need where they are more than the rows there are.
    """

    key: Hashable
    request: Decode
    groups: list[Group]

    @property
    def have_ended(self) -> bool:
        """Return whether all rows are done."""
        return all(group.has_ended for group in self.groups)

    def outcome(self) -> Outcome:
        """Return what the transcription is sent, or why it cannot go on."""
        errors = [group.error for group in self.groups if group.error is not None]
        eot = self.request.eot
        return (
            errors[0] if errors else [each for group in self.groups for each in _found(group, eot)]
        )


class TokenStepper:
    """A `worker.engine.family.Stepper` over a decoder, for `Decode` requests.

    Args:
        model: Pinned.
        slots: Most windows that are decoded together.
        rows: Most rows, their samples and beams; as many as windows if it is not said.
        steps_ahead: Of the decoder.
    """

    def __init__(
        self, model: SpeechModel, slots: int, rows: int | None = None, *, steps_ahead: int = 1
    ) -> None:
        self._steps_ahead = steps_ahead
        self.decoder = self._make_decoder(model, rows or slots, slots)
        self._candidates: dict[Hashable, Candidates] = {}
        self._waiting: deque[Group] = deque()
        self._refused: dict[Hashable, ScribefarmError] = {}
        self._waited_s = 0.0

    @property
    def num_slots(self) -> int:
        """Most windows that are decoded together."""
        return self.decoder.max_windows

    @property
    def num_active(self) -> int:
        """Windows that the next step advances, each with all its rows."""
        return self.decoder.num_windows

    @property
    def num_wanted(self) -> int:
        """Windows that are decoding or wait for a slot, and requests that there is no room for."""
        return self.decoder.num_windows + len(self._waiting) + len(self._refused)

    @property
    def wait_s(self) -> float:
        """Seconds that steps have waited for the device so far, or for NumPy in its place."""
        return self._waited_s + self.decoder.wait_s + self.decoder.model.busy_s

    def add(self, key: Hashable, request: Any) -> None:
        """Let a window's rows join as soon as there are slots; `step` returns them by `key`."""
        most = self.decoder.max_rows
        if request.search is not None and request.search.size > most:
            limit = f"at most {most}: memory had no room for more rows"
            self._refused[key] = OutOfMemory("decode: beam_size", limit, request.search.size)
            return
        candidates = Candidates(key, request, _groups(request, most))
        self._candidates[key] = candidates
        self._waiting.extend(candidates.groups)

    def step(self) -> list[tuple[Hashable, Outcome]]:
        """Advance all rows by a token and return the windows that ended.

        Raises:
            OutOfMemory: the device has no room; see `shrink`.
            RankMismatch, LengthMismatch, EmptyInput: the model is broken for every row.
        """
        with translated_errors():
            self._join()
            ended_groups = self.decoder.step()
        refused, self._refused = list(self._refused.items()), {}
        if not ended_groups:
            return [*refused]
        ended = [each for each in self._candidates.values() if each.have_ended]
        for each in ended:
            del self._candidates[each.key]
        return [*refused, *((each.key, each.outcome()) for each in ended)]

    def drop(self, key: Hashable) -> None:
        """Let a window's rows leave, if it has any."""
        self._refused.pop(key, None)
        candidates = self._candidates.pop(key, None)
        for group in candidates.groups if candidates else []:
            if group in self._waiting:
                self._waiting.remove(group)
            with translated_errors():
                self.decoder.remove_group(group)

    def shrink(self) -> bool:
        """Start all unfinished windows anew with half the rows; False if one row is too many."""
        if self.decoder.max_rows == 1:
            return False
        self._renew_decoder(self.decoder.max_rows // 2, max(1, self.decoder.max_windows // 2))
        mx.clear_cache()
        unfinished, self._candidates = self._candidates, {}
        self._waiting.clear()
        for each in unfinished.values():
            self.add(each.key, each.request)
        return True

    def reset(self) -> None:
        """Forget all rows."""
        self._renew_decoder(self.decoder.max_rows, self.decoder.max_windows)
        self._candidates.clear()
        self._waiting.clear()
        self._refused.clear()

    def _renew_decoder(self, rows: int, windows: int) -> None:
        self._waited_s += self.decoder.wait_s
        self.decoder = self._make_decoder(self.decoder.model, rows, windows)

    def _make_decoder(self, model: SpeechModel, max_rows: int, max_windows: int) -> Decoder:
        return Decoder(
            model,
            max_rows,
            max_windows,
            compile_step=on_gpu(),
            pad_rows=on_gpu(),
            steps_ahead=self._steps_ahead,
        )

    def _join(self) -> None:
        """Let windows join in their order, as many as there is room for."""
        joining: list[Group] = []
        while self._waiting and self.decoder.has_room([*joining, self._waiting[0]]):
            joining.append(self._waiting.popleft())
        if joining:
            self.decoder.insert_groups(joining)


def _groups(request: Decode, max_rows: int) -> list[Group]:
    """Return the beams of a request, or its samples, at most `max_rows` side by side."""
    if request.search is not None:
        return [Group.of_beams(_row(request, GREEDY), request.search)]
    rows = [_row(request, _sampling(request.temperature, seed)) for seed in request.seeds]
    return [Group(rows[first : first + max_rows]) for first in range(0, len(rows), max_rows)]


def _row(request: Decode, sampling: SamplingParams) -> Row:
    return Row(
        prompt=request.prompt,
        encoder_states=request.encoder_states,
        eos=frozenset([request.eot]),
        max_tokens=request.max_tokens,
        sampling=sampling,
        rules=request.rules,
        sot_index=request.sot_index,
        no_speech_token=request.no_speech,
    )


def _sampling(temperature: float, seed: int) -> SamplingParams:
    return SamplingParams(temperature=temperature, seed=seed) if temperature else GREEDY


def _found(group: Group, eot: int) -> list[Decoded]:
    """Return what a window's rows sampled, or what the search for it has to choose from."""
    if group.hypotheses is None:
        return [_decoded(row, eot) for row in group.rows]
    no_speech_prob = group.first.no_speech_prob
    return [Decoded(*each, no_speech_prob) for each in group.hypotheses.candidates()]


def _decoded(row: Row, eot: int) -> Decoded:
    tokens: list[Any] = row.tokens[:-1] if row.tokens[-1] == eot else row.tokens
    return Decoded(tuple(tokens), sum(row.logprobs), row.no_speech_prob)
