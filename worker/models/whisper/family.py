"""Whisper as the engine drives it: its network, its batched computations, its stepper."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from producer.errors import OutOfRange
from producer.job import Options
from producer.model_names import knows_english_alone
from producer.result import Model
from producer.settings import Settings
from worker.device.backend import (
    choose_dtype,
    dtype_name,
    on_cuda,
    on_gpu,
    set_up_cuda,
    started_stack,
    translated_errors,
    with_translated_errors,
)
from worker.device.decode_request import Decode
from worker.device.decoder import SHORT_PROMPT
from worker.device.stepper import TokenStepper
from worker.device.warm_up import warm_up
from worker.engine.family import Computation, Parts, Rehearsal
from worker.engine.memory_plan import MemoryPlan
from worker.engine.messages import Checkpoint
from worker.engine.requests import Batched
from worker.models.backend import Backend, computes_in_numpy
from worker.models.whisper.backend import make_network
from worker.models.whisper.limits import ModelLimits, check_options
from worker.models.whisper.log_mel import WINDOW_FRAMES, LogMel
from worker.models.whisper.memory_needs import memory_needs
from worker.models.whisper.requests import Align, Alignment, DetectLanguage, Encode
from worker.models.whisper.transcription import Transcription
from worker.models.whisper.weights.convert import dequantize
from worker.models.whisper.weights.load import load_weights
from worker.models.whisper.weights.parameters import Weights

# A window waits at most this many steps for others to be encoded with it.
PATIENCE_STEPS = 16
# Tokens of a window: LibriSpeech's five chapters have 1,234 in 18 windows, and 97 in 30 s of audio,
# since a window begins anew where its last whole segment ended (tests/benchmarks/RESULTS.md).
STEPS_PER_WINDOW = 70
NO_TOKEN = -1

DEFAULTS = Options()


class WhisperFamily:
    """A Whisper checkpoint: a `worker.engine.family.Family`, whose docstrings tell the rest.

    Args:
        weights: Loaded and checked.
        dtype: Of the computation.
        backend: MLX's network or NumPy's; see `worker.models.whisper.backend`.
        num_beams: Of the searches that jobs are expected to ask for; a GPU prepares them.

    Raises (all methods that compute):
        OutOfMemory: the device had no room.
    """

    name = "whisper"
    stepper: TokenStepper
    computations: Mapping[type[Batched[Any]], Computation]
    plan: MemoryPlan

    def __init__(
        self, weights: Weights, dtype: mx.Dtype, backend: Backend = "auto", num_beams: int = 1
    ) -> None:
        self.model = Model(name=weights.name, revision=weights.revision, dtype=dtype_name(dtype))
        self.network = make_network(weights, dtype, backend)
        dims = weights.dims
        is_english = knows_english_alone(weights.name)
        self.limits = ModelLimits(dims.n_vocab, dims.n_text_ctx, is_english)
        self.num_vocab = weights.dims.n_vocab
        self._num_beams = num_beams
        weights_bytes = sum(array.nbytes for array in weights.arrays.values())
        has_scores = not (on_gpu() or computes_in_numpy(dtype, backend))
        self.needs = memory_needs(
            weights.dims,
            weights_bytes,
            dtype.size,
            has_scores=has_scores,
            keeps_all=on_cuda(),
        )

    def rehearsal(self) -> Rehearsal:
        """Return windows of silence, and rows that no token ends."""
        return Rehearsal(
            encode=self._encode_silence,
            patience_steps=PATIENCE_STEPS,
            steps=STEPS_PER_WINDOW,
            stepper=lambda slots, ahead: TokenStepper(self.network, slots, steps_ahead=ahead),
            rows=self._endless_rows,
        )

    def _encode_silence(self, count: int) -> list[mx.array]:
        """Encode windows and read a prompt over each, as joining rows do."""
        with translated_errors():
            states = self.network.encode_audio(
                mx.zeros((count, WINDOW_FRAMES, self.network.n_mels))
            )
            prompts = mx.zeros((count, SHORT_PROMPT), mx.int32)
            logits, cache = self.network.prefill(states, prompts, prompts[:, :1])
            mx.eval(logits, cache)
        return list(states)

    def _endless_rows(self, encoder_states: mx.array) -> Decode:
        return Decode(
            encoder_states=encoder_states,
            prompt=self.network.default_prompt,
            sot_index=0,
            no_speech=0,
            eot=NO_TOKEN,
            max_tokens=self.network.context_length,
            rules=self.network.default_rules,
            temperature=0.0,
            seeds=(0,),
        )

    def pin(self, plan: MemoryPlan) -> None:
        """Make the decoder's batch, and decode a window of silence with it."""
        self.plan = plan
        self.stepper = TokenStepper(
            self.network, plan.slots, plan.rows, steps_ahead=plan.steps_ahead
        )
        self.computations = {
            Encode: Computation(
                self.encode,
                plan.batch_size,
                PATIENCE_STEPS,
                num_parts=self.network.num_encoder_parts,
            ),
            DetectLanguage: Computation(self.detect_language, plan.batch_size),
            Align: Computation(self.align, plan.batch_size),
        }
        silence = mx.zeros((1, WINDOW_FRAMES, self.network.n_mels))
        with translated_errors():
            encoder_states = self.network.encode_audio(silence)[0]
        warm_up(self.stepper.decoder, encoder_states, self._num_beams)

    def check(self, options: Options) -> None:
        """Refuse a language, task or token that this model does not have, and too many beams.

        The default search is not refused: it has as many beams as there are rows.
        """
        check_options(options, self.limits)
        if _num_beams(self._fitted(options)) > self.plan.rows:
            limit = f"must be at most {self.plan.rows}, the rows that fit into memory: {self.plan}"
            raise OutOfRange("options: beam_size", limit, options.beam_size)

    def features(self) -> LogMel:
        """Return an empty log-mel spectrogram."""
        return LogMel(self.network.log_mel_frames, self.network.n_mels)

    def transcription(self, options: Options, checkpoint: Checkpoint | None) -> Transcription:
        """Return the seek loop of one recording."""
        return Transcription(self._fitted(options), self.limits, checkpoint)

    def _fitted(self, options: Options) -> Options:
        """Return options whose search, if it is the default one, has no more beams than rows.

        A device that had no room is left with fewer rows than were planned.
        """
        if (options.beam_size, options.patience) != (DEFAULTS.beam_size, DEFAULTS.patience):
            return options
        num_beams = min(_num_beams(options), self.stepper.decoder.max_rows)
        return options.model_copy(update={"beam_size": num_beams})

    def encode(self, requests: Sequence[Encode]) -> Parts:
        """Start encoding windows; the states are computed by when they are first used."""
        return with_translated_errors(self._encode(requests))

    def _encode(self, requests: Sequence[Encode]) -> Parts:
        mels = [_window(request) for request in requests]
        for mel in mels:
            # Separately, see `Decoder`: hardly two batches are cut alike.
            mx.async_eval(mel)
        part: tuple[mx.array, ...] = ()
        for part in self.network.encode_in_parts(started_stack(mels)):
            mx.async_eval(part)
            yield
        return list(part[-1])

    def detect_language(self, requests: Sequence[DetectLanguage]) -> Any:
        """Start weighing language tokens; what is returned waits for the probabilities."""
        with translated_errors():
            prompts = mx.array([[request.sot] for request in requests], mx.int32)
            states = started_stack([request.encoder_states for request in requests])
            logits, _ = self.network.prefill(states, prompts, mx.zeros_like(prompts))
            # All requests are of one model: they weigh the same tokens.
            languages = logits[:, 0, mx.array(requests[0].language_tokens)]
            probabilities = mx.softmax(languages, axis=-1)
            mx.async_eval(probabilities)

        def read() -> Any:
            with translated_errors():
                return np.array(probabilities).tolist()

        return read

    def align(self, requests: Sequence[Align]) -> Any:
        """Start following attention over whole rows; what is returned waits for the scores."""
        longest = max(len(request.tokens) for request in requests)
        padded = [[*request.tokens, *[0] * (longest - len(request.tokens))] for request in requests]
        with translated_errors():
            states = started_stack([request.encoder_states for request in requests])
            tokens = mx.array(padded, mx.int32)
            cross_qk, logprobs = self.network.align(states, tokens, requests[0].num_text)
            mx.async_eval(cross_qk, logprobs)

        def read() -> list[Alignment]:
            with translated_errors():
                rows = zip(requests, np.array(cross_qk), np.array(logprobs), strict=True)
            return [
                Alignment(scores[:, : len(request.tokens)], logprob[: len(request.tokens) - 1])
                for request, scores, logprob in rows
            ]

        return read

    def peak_memory_bytes(self) -> int:
        """Return the most device memory in use at once so far."""
        return mx.get_peak_memory()


def load(settings: Settings) -> WhisperFamily:
    """Load and check the weights that the settings name.

    Raises:
        InvalidModel: there is no such model, or its weights are damaged.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
        InvalidSettings: the backend asked for cannot work here.
    """
    dtype = choose_dtype(settings.model.dtype)
    set_up_cuda(dtype)
    weights = load_weights(settings.model.name, revision=settings.model.revision, dtype=dtype)
    if weights.quantization is not None and not on_gpu():
        # MLX's CPU backend multiplies packed weights 40 times slower than float32.
        weights = dequantize(weights, dtype)
    num_beams = _num_beams(settings.options)
    return WhisperFamily(weights, dtype, settings.worker.backend, num_beams)


def _num_beams(options: Options) -> int:
    return options.beam_size or 1


def _window(asked: Encode) -> mx.array:
    mel: LogMel = asked.features
    return (
        mel.language_window(asked.seek)
        if asked.for_language
        else mel.window(asked.seek, asked.size)
    )
