"""The stepper of families that decode token by token: requests wait for rows of one decoder."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from producer.errors import ScribefarmError
from worker.device.backend import device_policy, on_gpu, translated_errors
from worker.device.decode_request import Decode, Decoded
from worker.device.decoder import Decoder
from worker.device.row import Row
from worker.device.sampling_params import GREEDY, SamplingParams
from worker.device.speech_model import SpeechModel

Outcome = list[Decoded] | ScribefarmError


@dataclass(eq=False)
class Candidates:
    """The rows of one `Decode`, one for each seed, and the key it was added with."""

    key: Hashable
    request: Decode
    rows: list[Row]

    @property
    def have_ended(self) -> bool:
        """Return whether all rows are done."""
        return all(row.finish_reason is not None for row in self.rows)

    def outcome(self) -> Outcome:
        """Return what the transcription is sent, or why it cannot go on."""
        errors = [row.error for row in self.rows if row.error is not None]
        return errors[0] if errors else [_decoded(row, self.request.eot) for row in self.rows]


class TokenStepper:
    """A `worker.engine.family.Stepper` over a decoder, for `Decode` requests.

    Args:
        model: Pinned.
        slots: Most rows that are decoded together.
    """

    def __init__(self, model: SpeechModel, slots: int) -> None:
        self.decoder = _decoder(model, slots)
        self._candidates: dict[Hashable, Candidates] = {}
        self._waiting: deque[Row] = deque()
        self._waited_s = 0.0

    @property
    def num_slots(self) -> int:
        """Most rows that are decoded together."""
        return self.decoder.max_rows

    @property
    def num_active(self) -> int:
        """Rows that the next step advances."""
        return self.decoder.num_active

    @property
    def num_wanted(self) -> int:
        """Rows that are decoding or wait for a slot."""
        return self.decoder.num_active + len(self._waiting)

    @property
    def wait_s(self) -> float:
        """Seconds that steps have waited for the device so far, or for NumPy in its place."""
        return self._waited_s + self.decoder.wait_s + self.decoder.model.busy_s

    def add(self, key: Hashable, request: Any) -> None:
        """Let a window's rows join as soon as there are slots; `step` returns them by `key`."""
        candidates = Candidates(key, request, _rows(request))
        self._candidates[key] = candidates
        self._waiting.extend(candidates.rows)

    def step(self) -> list[tuple[Hashable, Outcome]]:
        """Advance all rows by a token and return the windows that ended.

        Raises:
            OutOfMemory: the device has no room; see `shrink`.
            RankMismatch, LengthMismatch, EmptyInput: the model is broken for every row.
        """
        with translated_errors():
            self._join()
            ended_rows = self.decoder.step()
        if not ended_rows:
            return []
        ended = [each for each in self._candidates.values() if each.have_ended]
        for each in ended:
            del self._candidates[each.key]
        return [(each.key, each.outcome()) for each in ended]

    def drop(self, key: Hashable) -> None:
        """Let a window's rows leave, if it has any."""
        candidates = self._candidates.pop(key, None)
        for row in candidates.rows if candidates else []:
            if row in self._waiting:
                self._waiting.remove(row)
            with translated_errors():
                self.decoder.remove(row)

    def shrink(self) -> bool:
        """Start all unfinished windows anew with half the rows; False if one row is too many."""
        if self.decoder.max_rows == 1:
            return False
        self._renew_decoder(self.decoder.max_rows // 2)
        mx.clear_cache()
        unfinished, self._candidates = self._candidates, {}
        self._waiting.clear()
        for each in unfinished.values():
            self.add(each.key, each.request)
        return True

    def reset(self) -> None:
        """Forget all rows."""
        self._renew_decoder(self.decoder.max_rows)
        self._candidates.clear()
        self._waiting.clear()

    def _renew_decoder(self, rows: int) -> None:
        self._waited_s += self.decoder.wait_s
        self.decoder = _decoder(self.decoder.model, rows)

    def _join(self) -> None:
        joining = min(self.decoder.num_free, len(self._waiting))
        if joining:
            self.decoder.insert([self._waiting.popleft() for _ in range(joining)])


def _decoder(model: SpeechModel, max_rows: int) -> Decoder:
    """Return a decoder whose host work hides behind a GPU's steps; a CPU's are long enough."""
    return Decoder(
        model,
        max_rows,
        compile_step=on_gpu(),
        pad_rows=on_gpu(),
        steps_ahead=device_policy().steps_ahead,
    )


def _rows(request: Decode) -> list[Row]:
    return [
        Row(
            prompt=request.prompt,
            encoder_states=request.encoder_states,
            eos=frozenset([request.eot]),
            max_tokens=request.max_tokens,
            sampling=_sampling(request.temperature, seed),
            rules=request.rules,
            sot_index=request.sot_index,
            no_speech_token=request.no_speech,
        )
        for seed in request.seeds
    ]


def _sampling(temperature: float, seed: int) -> SamplingParams:
    return SamplingParams(temperature=temperature, seed=seed) if temperature else GREEDY


def _decoded(row: Row, eot: int) -> Decoded:
    tokens: list[Any] = row.tokens[:-1] if row.tokens[-1] == eot else row.tokens
    return Decoded(tuple(tokens), sum(row.logprobs), row.no_speech_prob)
