"""One utterance from file to tokens: the decoder of the farm with a single row.

The order of refusal: the configuration (every bound, and what only building it shows), the cap's
own value, the file's header, its samples, their frames, then the model. Each is checked before
the next costs anything.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import mlx.core as mx

from producer.errors import EmptyInput, LengthMismatch, OutOfRange
from worker.audio.caps import validate_max_seconds
from worker.audio.recording import load_audio
from worker.device.backend import translated_errors
from worker.device.decode_request import RowRules
from worker.device.decoder import Decoder
from worker.device.row import FinishReason, Row
from worker.device.rules import suppression_masks
from worker.device.sampling_params import SamplingParams
from worker.device.speech_model import SpeechModel
from worker.models.mel import SAMPLE_RATE_HZ
from worker.models.whisper.log_mel import HOP_LENGTH, LogMel, num_frames

# The window that Whisper was trained on; longer audio is a job for the farm, not for one call.
DEFAULT_MAX_AUDIO_SECONDS = 30.0
DEFAULT_MAX_TOKENS = 224  # half of Whisper's text context, as the reference samples


@dataclass(frozen=True, kw_only=True)
class SttGenConfig:
    """What one call of `stt_generate` may do.

    Attributes:
        sampling: How tokens are chosen; greedy by default.
        max_tokens: Most tokens that are sampled, the ending one included.
        eos: Ids that end the text, besides the model's own.
        prompt: Tokens that are read first; None: the model's start token.
        rules: What may be sampled; None: the model's own rules.
        auto_resample: Off, audio of another rate than the model's is refused.
        resampler: `soxr_hq` or `linear`.
        max_audio_seconds: Longest audio, in seconds at the source's own rate; inclusive.
        collect_logprobs: Give log-probabilities over the vocabulary with each step, lazily.

    Raises:
        OutOfRange: `max_tokens` is not positive or a token id is negative.
        EmptyInput: an empty prompt.
    """

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int = DEFAULT_MAX_TOKENS
    eos: frozenset[int] = frozenset()
    prompt: tuple[int, ...] | None = None
    rules: RowRules | None = None
    auto_resample: bool = True
    resampler: str = "soxr_hq"
    max_audio_seconds: float = DEFAULT_MAX_AUDIO_SECONDS
    collect_logprobs: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise OutOfRange("stt_generate: max_tokens", "must be at least 1", self.max_tokens)
        if self.prompt is not None and not self.prompt:
            raise EmptyInput("stt_generate: prompt", "must have at least one token")
        for token in (*self.eos, *(self.prompt or ())):
            if token < 0:
                raise OutOfRange("stt_generate: token ids", "must not be negative", token)


@dataclass(frozen=True)
class GenerationStats:
    """What a generation cost; tokens per second are over its own part of the time.

    Attributes:
        prompt_s: From the first `next` until the first token was known.
        generation_s: From there to the end.
        total_s: From the call of `stt_generate`, audio and encoder included.
    """

    prompt_tokens: int
    generated_tokens: int
    prompt_s: float
    generation_s: float
    total_s: float
    peak_memory_bytes: int

    @property
    def prompt_tokens_per_s(self) -> float:
        """Prompt tokens read a second."""
        return self.prompt_tokens / max(self.prompt_s, 1e-9)

    @property
    def generated_tokens_per_s(self) -> float:
        """Tokens sampled a second."""
        return self.generated_tokens / max(self.prompt_s + self.generation_s, 1e-9)


@dataclass(frozen=True)
class GenStep:
    """One sampled token.

    Attributes:
        logprob: Its log-probability after the rules.
        logprobs: Over the vocabulary, (V,), not computed until it is used; None unless asked.
        finish_reason: `stop` on an ending token, `length` on the last of `max_tokens`, else None.
        stats: On the last step.
    """

    token: int
    logprob: float
    step_index: int
    logprobs: mx.array | None = None
    finish_reason: FinishReason | None = None
    stats: GenerationStats | None = None


class SttGenerator(Iterator[GenStep]):
    """The steps of one utterance; a fused iterator.

    After a step with a finish reason, and after an error was raised, every further `next` ends at
    once and the model is never called again. Exactly one model call a token.

    Raises (from `next`, once):
        RankMismatch, LengthMismatch, EmptyInput: the model's logits have a wrong shape.
        NonFinite: the model's logits are NaN or infinite where one was chosen.
        OutOfMemory, DeviceLost: what the device said.
    """

    def __init__(
        self, model: SpeechModel, row: Row, *, keep_logprobs: bool, started: float
    ) -> None:
        self._decoder = Decoder(model, 1, keep_logprobs=keep_logprobs)
        self._row = row
        self._keep_logprobs = keep_logprobs
        self._started = started
        self._first_called: float | None = None
        self._first_known = 0.0
        self._is_done = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GenStep:
        if self._is_done:
            raise StopIteration
        # Whatever goes wrong below, the model is not entered again.
        self._is_done = True
        self._advance()
        row = self._row
        if row.error is not None:
            raise row.error
        self._is_done = row.finish_reason is not None
        return GenStep(
            token=row.tokens[-1],
            logprob=row.logprobs[-1],
            step_index=len(row.tokens) - 1,
            logprobs=row.all_logprobs,
            finish_reason=row.finish_reason,
            stats=self._stats() if self._is_done else None,
        )

    def _advance(self) -> None:
        """Sample one more token and wait for it; a single row gains nothing from running ahead."""
        with translated_errors():
            if self._first_called is None:
                self._first_called = time.monotonic()
                self._decoder.insert([self._row])
                self._decoder.collect()
                self._first_known = time.monotonic()
            else:
                self._decoder.dispatch()
                self._decoder.collect()

    def _stats(self) -> GenerationStats:
        now = time.monotonic()
        first_called = self._first_called or now
        return GenerationStats(
            prompt_tokens=len(self._row.prompt),
            generated_tokens=len(self._row.tokens),
            prompt_s=self._first_known - first_called,
            generation_s=now - self._first_known,
            total_s=now - self._started,
            peak_memory_bytes=mx.get_peak_memory(),
        )


def stt_generate(
    model: SpeechModel,
    audio_path: str | Path | None,
    config: SttGenConfig | None = None,
    *,
    states: mx.array | None = None,
) -> SttGenerator:
    """Start transcribing one utterance of at most `config.max_audio_seconds`.

    Args:
        model: Pinned weights.
        audio_path: The recording; not touched, and may be None, when `states` are given.
        config: Defaults to greedy decoding by the model's own rules.
        states: From `encode_audio_file`: decode again without reading or encoding again.

    Raises:
        OutOfRange: configuration, cap, duration, rate.
        EmptyInput: no samples, or too few for one frame.
        ScribefarmError: whatever else is wrong with the file; see `worker.audio.recording`.
    """
    started = time.monotonic()
    config = config or SttGenConfig()
    row = _row(model, config)
    if states is None:
        if audio_path is None:
            raise EmptyInput("stt_generate: audio", "needs a file, or encoder states")
        states = encode_audio_file(model, audio_path, config)
    row.encoder_states = states
    return SttGenerator(model, row, keep_logprobs=config.collect_logprobs, started=started)


def encode_audio_file(
    model: SpeechModel, audio_path: str | Path, config: SttGenConfig | None = None
) -> mx.array:
    """Return the encoder states of a file, without a row axis, for any number of decodes.

    Raises:
        ScribefarmError: as `stt_generate` does for the file.
    """
    config = config or SttGenConfig()
    validate_max_seconds(config.max_audio_seconds)
    samples, header = load_audio(
        audio_path,
        max_seconds=config.max_audio_seconds,
        target_rate_hz=SAMPLE_RATE_HZ,
        auto_resample=config.auto_resample,
        resampler=config.resampler,
    )
    if num_frames(samples.size) == 0:
        constraint = f"needs {HOP_LENGTH} samples at {SAMPLE_RATE_HZ} Hz for one mel frame"
        raise EmptyInput(f"{header.path}: too short to frame", constraint, samples.size)
    spectrogram = LogMel(model.log_mel_frames, model.n_mels)
    spectrogram.push(samples)
    spectrogram.finish()
    return model.encode_audio(spectrogram.window(0)[None])[0]


def _row(model: SpeechModel, config: SttGenConfig) -> Row:
    """Check the configuration against the model, then the cap, and build the row; no file yet."""
    rules = config.rules if config.rules is not None else model.default_rules
    suppression_masks(model.num_vocab, rules.suppress, rules.suppress_first)
    config.sampling.check_vocabulary(model.num_vocab)
    prompt = config.prompt or model.default_prompt
    for token in (*prompt, *config.eos):
        if token >= model.num_vocab:
            raise OutOfRange("stt_generate: token ids", f"must be below {model.num_vocab}", token)
    room = model.context_length + 1 - len(prompt)
    if room < 1:
        limit = f"must have at most {model.context_length} tokens"
        raise LengthMismatch("stt_generate: prompt", limit, len(prompt))
    validate_max_seconds(config.max_audio_seconds)
    return Row(
        prompt=prompt,
        encoder_states=mx.zeros(0),
        eos=config.eos | {model.eos_token},
        max_tokens=min(config.max_tokens, room),
        sampling=config.sampling,
        rules=rules,
    )
