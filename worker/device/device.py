"""Everything the engine asks of MLX, behind one object that only the engine thread may touch."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from producer.errors import OutOfMemory, ScribefarmError
from producer.result import Model
from producer.settings import Settings
from worker.device.decoder import Decoder
from worker.device.memory import MemoryPlan, apply_memory_plan, plan_memory
from worker.device.row import Sequence
from worker.device.sampling import GREEDY, SamplingParams
from worker.device.speech_model import SpeechModel
from worker.engine.requests import Align, Alignment, Decode, Decoded, DetectLanguage, Encode
from worker.models.whisper.backend import Backend, computes_in_numpy, make_network
from worker.models.whisper.log_mel import WINDOW_FRAMES, LogMel
from worker.models.whisper.transcription import ModelLimits
from worker.models.whisper.weights.convert import dequantize
from worker.models.whisper.weights.load import Weights, load_weights

DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
# While the host cuts, uploads and reads windows, a GPU has so many steps to go on with (measured
# on CUDA, not on Metal); a row that has ended costs as many for nothing.
STEPS_AHEAD_ON_GPU = 4
# How MLX's allocators say that there is no room, on Metal, CUDA and the CPU.
OUT_OF_MEMORY_WORDS = ("malloc", "alloc", "out of memory", "insufficient memory")


@dataclass
class Group:
    """The rows of one `Decode`: one each seed."""

    request: Decode
    rows: list[Sequence]

    @property
    def has_ended(self) -> bool:
        """Whether all rows are done."""
        return all(row.finish_reason is not None for row in self.rows)

    def outcome(self) -> list[Decoded] | ScribefarmError:
        """Return what the transcription is sent, or why it cannot go on."""
        errors = [row.error for row in self.rows if row.error is not None]
        return errors[0] if errors else [_decoded(row, self.request.eot) for row in self.rows]


class Device:
    """A pinned model with its decoder; every method is called from the thread that made it.

    Raises (all methods that compute):
        OutOfMemory: the device had no room; see `shrink`.
    """

    def __init__(
        self, weights: Weights, dtype: mx.Dtype, plan: MemoryPlan, backend: Backend = "auto"
    ) -> None:
        self._whisper = make_network(weights, dtype, backend)
        self._decoder = _decoder(self._whisper, plan.slots)
        self._groups: dict[Hashable, Group] = {}
        self._keys: dict[Sequence, Hashable] = {}
        self._waiting: deque[Sequence] = deque()
        self._waited_s = 0.0
        self.encode_batch = plan.encode_batch
        self.limits = ModelLimits(weights.dims.n_vocab, weights.dims.n_text_ctx)
        self.model = Model(
            name=weights.name, revision=weights.revision, dtype=str(dtype).rsplit(".", 1)[-1]
        )

    @property
    def wait_s(self) -> float:
        """Seconds that steps have waited for the device so far."""
        return self._waited_s + self._decoder.wait_s + self._whisper.busy_s

    @property
    def num_slots(self) -> int:
        """Most rows that are decoded together."""
        return self._decoder.max_rows

    @property
    def num_rows_wanted(self) -> int:
        """Rows that are decoding or waiting for a place."""
        return self._decoder.num_active + len(self._waiting)

    @property
    def num_active(self) -> int:
        """Rows that the next step advances."""
        return self._decoder.num_active

    def log_mel(self) -> LogMel:
        """Return an empty spectrogram for a recording."""
        return LogMel(self._whisper.log_mel_frames, self._whisper.n_mels)

    def encode(self, windows: list[tuple[LogMel, Encode]]) -> list[mx.array]:
        """Start encoding a batch of windows; the states are ready when they are first used."""
        with translated_errors():
            mels = [_window(*asked) for asked in windows]
            for mel in mels:
                # By itself, see `Decoder._start`: hardly two batches are cut alike.
                mx.async_eval(mel)
            states = self._whisper.encode_audio(_started_stack(mels))
            mx.async_eval(states)
            return list(states)

    def detect_language(self, requests: list[DetectLanguage]) -> Callable[[], list[list[float]]]:
        """Start weighing language tokens; call what is returned for the probabilities."""
        with translated_errors():
            prompts = mx.array([[request.sot] for request in requests], mx.int32)
            states = _started_stack([request.states for request in requests])
            logits, _ = self._whisper.prefill(states, prompts, mx.zeros_like(prompts))
            # All requests are of one model: they weigh the same tokens.
            languages = logits[:, 0, mx.array(requests[0].language_tokens)]
            probabilities = mx.softmax(languages, axis=-1)
            mx.async_eval(probabilities)
            return lambda: np.array(probabilities).tolist()

    def align(self, requests: list[Align]) -> Callable[[], list[Alignment]]:
        """Start following attention over whole rows; call what is returned for the scores."""
        longest = max(len(request.tokens) for request in requests)
        padded = [[*request.tokens, *[0] * (longest - len(request.tokens))] for request in requests]
        with translated_errors():
            states = _started_stack([request.states for request in requests])
            tokens = mx.array(padded, mx.int32)
            scores, logprobs = self._whisper.align(states, tokens, requests[0].num_text)
            mx.async_eval(scores, logprobs)

        def read() -> list[Alignment]:
            rows = zip(requests, np.array(scores), np.array(logprobs), strict=True)
            return [
                Alignment(score[:, : len(request.tokens)], logprob[: len(request.tokens) - 1])
                for request, score, logprob in rows
            ]

        return read

    def decode(self, key: Hashable, request: Decode) -> None:
        """Let a window's rows join as soon as there is room; `step` returns them by `key`."""
        rows = _rows(request)
        self._groups[key] = Group(request, rows)
        self._waiting.extend(rows)
        self._keys.update(dict.fromkeys(rows, key))

    def step(self) -> list[tuple[Hashable, list[Decoded] | ScribefarmError]]:
        """Advance all rows by a token and return the windows that ended.

        Raises:
            RankMismatch, LengthMismatch, EmptyInput: the model is broken for every row.
        """
        with translated_errors():
            self._join()
            rows = self._decoder.step()
        touched = dict.fromkeys(self._keys.pop(row) for row in rows if row in self._keys)
        ended = [key for key in touched if self._groups[key].has_ended]
        return [(key, self._groups.pop(key).outcome()) for key in ended]

    def drop(self, key: Hashable) -> None:
        """Let a window's rows leave, if it has any."""
        group = self._groups.pop(key, None)
        for row in group.rows if group else []:
            if row in self._waiting:
                self._waiting.remove(row)
            self._decoder.remove(row)
            self._keys.pop(row, None)

    def shrink(self) -> bool:
        """Start all unfinished windows anew with half the rows; False if one row is too many."""
        if self._decoder.max_rows == 1:
            return False
        rows = self._decoder.max_rows // 2
        self._renew_decoder(rows)
        mx.clear_cache()
        requests = {key: group.request for key, group in self._groups.items()}
        self._waiting.clear()
        self._keys.clear()
        for key, request in requests.items():
            self.decode(key, request)
        return True

    def reset(self) -> None:
        """Forget all rows."""
        self._renew_decoder(self._decoder.max_rows)
        self._groups.clear()
        self._keys.clear()
        self._waiting.clear()

    def warm_up(self) -> None:
        """Build what greedy decoding takes, so that the first recording does not pay for it.

        On a GPU this decodes a full batch, which must fit into memory before any job. Rows leave it
        and join again, one alone and two apart, and most of them leave for good. CUDA takes some
        4 s to compile a kernel that it has not seen on this machine before.
        """
        silence = mx.zeros((1, WINDOW_FRAMES, self._whisper.n_mels))
        states = self._whisper.encode_audio(silence)[0]
        decoder = self._decoder
        with translated_errors():
            rows = self._silent_rows(states, decoder.max_rows if on_gpu() else 1)
            decoder.insert(rows)
            if on_gpu():
                self._exchange(rows)
            while decoder.num_active:
                decoder.step()

    def _exchange(self, rows: list[Sequence]) -> None:
        """Let rows of `warm_up` leave and others join: one alone, two apart; then let most leave."""
        alone, apart = rows[1:2], rows[:3:2]
        for leaving in filter(None, (alone, apart)):
            for row in leaving:
                self._decoder.remove(row)
            self._decoder.insert(self._silent_rows(rows[0].states, len(leaving)))
            self._decoder.step()
        for row in rows[3:]:
            self._decoder.remove(row)

    def _silent_rows(self, states: mx.array, count: int) -> list[Sequence]:
        """Return rows for `warm_up` that live through all of it."""
        return [
            Sequence(
                prompt=self._whisper.default_prompt,
                states=states,
                eos=frozenset(),
                max_tokens=8 if on_gpu() else 2,
                rules=self._whisper.default_rules,
            )
            for _ in range(count)
        ]

    def peak_memory_bytes(self) -> int:
        """Return the most device memory in use at once so far."""
        return mx.get_peak_memory()

    def _renew_decoder(self, rows: int) -> None:
        self._waited_s += self._decoder.wait_s
        self._decoder = _decoder(self._whisper, rows)

    def _join(self) -> None:
        joining = min(self._decoder.num_free, len(self._waiting))
        if joining:
            self._decoder.insert([self._waiting.popleft() for _ in range(joining)])


def load_device(settings: Settings, device_type: type[Device] = Device) -> Device:
    """Load, check, pin and warm up the model that the settings name.

    Args:
        settings: Model, slots and memory.
        device_type: A `Device` that does more, such as measuring itself.

    Raises:
        InvalidModel: there is no such model, or its weights are damaged.
        OutOfRange: the slots asked for, or the model, do not fit into memory.
        SourceUnreachable: the hub does not answer and the model was not fetched before.
    """
    dtype = choose_dtype(settings.model.dtype)
    set_up_cuda(dtype)
    weights = load_weights(settings.model.name, revision=settings.model.revision, dtype=dtype)
    if weights.quantization is not None and not on_gpu():
        # MLX's CPU backend multiplies packed weights 40 times slower than float32.
        weights = dequantize(weights, dtype)
    return pin_device(weights, dtype, settings, device_type)


def pin_device(
    weights: Weights, dtype: mx.Dtype, settings: Settings, device_type: type[Device] = Device
) -> Device:
    """Plan the memory beside these weights, pin and warm them up.

    Raises:
        OutOfRange: the slots asked for, or the model, do not fit into memory.
    """
    weights_bytes = sum(array.nbytes for array in weights.arrays.values())
    backend = settings.worker.backend
    has_scores = not on_gpu() and not computes_in_numpy(dtype, backend)
    plan = plan_memory(
        weights.dims, weights_bytes, dtype.size, settings.worker, has_scores=has_scores
    )
    apply_memory_plan(plan)
    device = device_type(weights, dtype, plan, backend)
    device.warm_up()
    return device


def set_up_cuda(dtype: mx.Dtype) -> None:
    """Set what MLX reads from the environment before it computes on CUDA for the first time."""
    # It would stop for good after 800 sequences of kernels that it had not seen before; those that
    # it keeps are bounded all the same (mlx 0.32, lru_cache.h; ml-explore/mlx#2600).
    os.environ.setdefault("MLX_ENABLE_CACHE_THRASHING_CHECK", "0")
    if dtype == mx.float32:
        # It would multiply in TF32, with ten bits; float32 is asked for its exactness.
        os.environ.setdefault("MLX_ENABLE_TF32", "0")


def choose_dtype(name: str) -> mx.Dtype:
    """Return the asked dtype; `auto` is float16 on a GPU and float32 on a CPU, where half is slow."""
    return DTYPES[name] if name != "auto" else (mx.float16 if on_gpu() else mx.float32)


def on_gpu() -> bool:
    """Tell whether MLX computes on Metal or CUDA."""
    return bool(mx.default_device().type == mx.gpu)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn MLX's way of saying that memory is short into `OutOfMemory`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not any(word in str(error).lower() for word in OUT_OF_MEMORY_WORDS):
            raise
        raise OutOfMemory("device", "must have room for the batch", str(error)) from error


def _decoder(model: SpeechModel, max_rows: int) -> Decoder:
    """Return a decoder whose host work hides behind a GPU's steps; a CPU's are long enough."""
    return Decoder(
        model,
        max_rows,
        compile_step=on_gpu(),
        pad_rows=on_gpu(),
        steps_ahead=STEPS_AHEAD_ON_GPU if on_gpu() else 1,
    )


def _started_stack(arrays: list[mx.array]) -> mx.array:
    """Return arrays as rows, handed over by themselves: how many there are varies."""
    stacked = mx.stack(arrays)
    mx.async_eval(stacked)
    return stacked


def _window(mel: LogMel, asked: Encode) -> mx.array:
    return mel.language_window() if asked.for_language else mel.window(asked.seek, asked.size)


def _rows(request: Decode) -> list[Sequence]:
    return [
        Sequence(
            prompt=request.prompt,
            states=request.states,
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


def _decoded(row: Sequence, eot: int) -> Decoded:
    tokens: list[Any] = row.tokens[:-1] if row.tokens[-1] == eot else row.tokens
    return Decoded(tuple(tokens), sum(row.logprobs), row.no_speech_prob)
