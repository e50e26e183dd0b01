"""One recording, window by window, as openai-whisper's `transcribe` goes through it.

A transcription is a generator: it yields what it needs (`worker.engine.requests`) and is sent the reply.
It has no thread, tensor or batch in it. The engine drives many at once, so that speed comes from
batching across recordings while each keeps the reference's sequential text.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from producer.errors import OutOfRange
from producer.job import Options
from producer.result import Segment
from worker.engine.messages import Checkpoint
from worker.engine.requests import (
    Decode,
    DetectLanguage,
    Encode,
    derive_seed,
)
from worker.models.whisper.fallback import Attempt, is_doubtful_language
from worker.models.whisper.languages import parse_language
from worker.models.whisper.prompt import num_initial_tokens, row_rules, window_prompt
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.vocabulary import TIMESTAMP_S
from worker.models.whisper.word_timing import FRAMES_PER_SECOND, WINDOW_FRAMES, Window
from worker.models.whisper.words import WordTimes

FRAMES_PER_TIMESTAMP = 2
# A history that was sampled this hot is no help to the next window.
HOTTEST_HISTORY = 0.5

Requests = Generator[Any, Any, Any]


@dataclass(frozen=True)
class ModelLimits:
    """What a transcription must know of its model."""

    n_vocab: int
    context_length: int


class Transcription:
    """The state of one recording between two windows.

    Args:
        options: How it is transcribed.
        limits: The model's vocabulary and context.
        checkpoint: Where an earlier run stood; the text goes on as if it had never stopped.

    Raises:
        InvalidOptions: a language or task that the model does not have.
        OutOfRange: a suppressed token that the vocabulary does not have.
    """

    def __init__(
        self, options: Options, limits: ModelLimits, checkpoint: Checkpoint | None = None
    ) -> None:
        highest = max(options.suppress_tokens, default=-1)
        if highest >= limits.n_vocab:
            raise OutOfRange("options: suppress_tokens", f"ids below {limits.n_vocab}", highest)
        self.content_frames = 0
        self.options = options
        self.limits = limits
        resumed = checkpoint or Checkpoint()
        self.segments = list(resumed.segments)
        self.language = resumed.language or options.language
        self.language_probability = resumed.state.get("language_probability")
        self.num_windows = 0
        self.num_prompt_tokens = 0
        self.num_generated_tokens = 0
        self._tokenizer = Tokenizer(limits.n_vocab, self.language, options.task)
        self._seek = resumed.seek
        self._prompt_reset_since = resumed.prompt_reset_since
        self._words = WordTimes(options, resumed.state.get("last_speech_s", 0.0))
        self._encoded_for_language: Any = None

    @property
    def seconds_done(self) -> float:
        """Seconds of the recording that need not be looked at again."""
        return min(self._seek, self.content_frames) / FRAMES_PER_SECOND

    @property
    def text(self) -> str:
        """The whole text so far."""
        tokens = [token for segment in self.segments for token in segment.tokens]
        return self._tokenizer.decode(tokens)

    @property
    def flags(self) -> list[str]:
        """Every reason to look at this recording, each once."""
        return sorted({flag for segment in self.segments for flag in segment.flags})

    def checkpoint(self) -> Checkpoint:
        """Return all that another worker needs to go on from here."""
        return Checkpoint(
            seek=self._seek,
            segments=tuple(self.segments),
            prompt_reset_since=self._prompt_reset_since,
            language=self.language,
            state=self._state(),
        )

    def _state(self) -> dict[str, float]:
        state = {"last_speech_s": self._words.last_speech_s}
        if self.language_probability is not None:
            state["language_probability"] = self.language_probability
        return state

    def windows(self, content_frames: int) -> Requests:
        """Go through the recording's mel frames (10 ms, whole ones).

        Yields requests, and a `Checkpoint` after each window.
        """
        self.content_frames = content_frames
        if self.language is None:
            yield from self._detect_language()
        self.language = self._tokenizer.language or "en"
        for start, end in self._clips():
            self._seek = max(self._seek, start)
            while self._seek < end:
                yield from self._window(end)
                self._encoded_for_language = None
                yield self.checkpoint()

    def _clips(self) -> list[tuple[int, int]]:
        """Return the stretches to transcribe, as mel frames within the recording."""
        points = [round(point * FRAMES_PER_SECOND) for point in self.options.clip_timestamps] or [0]
        if len(points) % 2:
            points.append(self.content_frames)
        return [
            (start, min(end, self.content_frames))
            for start, end in zip(points[::2], points[1::2], strict=True)
        ]

    def _detect_language(self) -> Requests:
        """Choose the likeliest (allowed) language of the first 30 s."""
        if not self._tokenizer.is_multilingual:
            return
        states = yield Encode(0, WINDOW_FRAMES, for_language=True)
        tokenizer = self._tokenizer
        probabilities = yield DetectLanguage(states, tokenizer.sot, tokenizer.all_language_tokens)
        allowed = {parse_language(language) for language in self.options.allowed_languages}
        self.language_probability, self.language = max(
            (probability, code)
            for probability, code in zip(probabilities, tokenizer.all_language_codes, strict=True)
            if not allowed or code in allowed
        )
        self._tokenizer = Tokenizer(self.limits.n_vocab, self.language, self.options.task)
        if self.content_frames >= WINDOW_FRAMES:
            # No silence was needed to fill it: this is the first window, encoded already.
            self._encoded_for_language = states

    def _window(self, end: int) -> Requests:
        """Decode the window at `seek`, keep its segments, and move on."""
        size = min(WINDOW_FRAMES, self.content_frames - self._seek, end - self._seek)
        states = self._encoded_for_language
        if states is None or self._seek > 0 or size < WINDOW_FRAMES:
            states = yield Encode(self._seek, size)
        self.num_windows += 1
        result = yield from self._decode_with_fallback(states)
        if result.is_silence:
            self._seek += size
            return
        cut, next_seek, ends_alone = self._cut(result, size)
        segments: list[Segment] | None = cut
        if self.options.word_timestamps:
            segments, next_seek = yield from self._words.add(
                states,
                cut,
                Window(self._seek, size, self.content_frames),
                self._tokenizer,
                seek=next_seek,
                ends_alone=ends_alone,
            )
        self._seek = next_seek
        if segments is not None:
            self._keep(segments, result.temperature)

    def _decode_with_fallback(self, states: Any) -> Requests:
        """Try the temperatures in turn until the text looks right; the last one counts anyway."""
        options = self.options
        history = [token for segment in self.segments for token in segment.tokens]
        prompt, sot_index = window_prompt(
            self._tokenizer, options, history, self._prompt_reset_since, self.limits.context_length
        )
        rules = row_rules(self._tokenizer, options)
        for attempt, temperature in enumerate(options.temperatures):
            num_samples = 1 if temperature == 0 else options.best_of
            candidates = yield Decode(
                states=states,
                prompt=prompt,
                sot_index=sot_index,
                no_speech=self._tokenizer.no_speech,
                eot=self._tokenizer.eot,
                max_tokens=self._max_tokens(len(prompt)),
                rules=rules,
                temperature=temperature,
                seeds=tuple(
                    derive_seed(options.seed, self._seek, attempt, sample)
                    for sample in range(num_samples)
                ),
            )
            self.num_prompt_tokens += len(prompt) * num_samples
            self.num_generated_tokens += sum(len(candidate.tokens) for candidate in candidates)
            decoded = max(candidates, key=lambda row: row.sum_logprob / max(1, len(row.tokens)))
            text = self._tokenizer.decode(decoded.tokens).strip()
            result = Attempt(decoded, temperature, text, options)
            if not result.looks_wrong:
                break
        return result

    def _max_tokens(self, prompt_length: int) -> int:
        """Return how many tokens may be sampled; the reference stops past a full context."""
        asked = self.options.sample_len or self.limits.context_length // 2
        return min(asked, self.limits.context_length + 1 - prompt_length)

    def _cut(self, result: Attempt, size: int) -> tuple[list[Segment], int, bool]:
        """Cut a window's tokens; return segments, next seek, and whether one timestamp ends it."""
        tokens, begin = result.decoded.tokens, self._tokenizer.timestamp_begin
        is_timestamp = [token >= begin for token in tokens]
        ends_alone = is_timestamp[-2:] == [False, True]
        ends = [
            index
            for index in range(1, len(tokens))
            if is_timestamp[index - 1] and is_timestamp[index]
        ]
        if not ends:
            seconds = self._unpaired_seconds(tokens, size)
            return [self._segment(result, tokens, 0.0, seconds)], self._seek + size, ends_alone
        if ends_alone:
            ends.append(len(tokens))
        starts = [0, *ends[:-1]]
        segments = [
            self._segment(
                result,
                tokens[start:end],
                (tokens[start] - begin) * TIMESTAMP_S,
                (tokens[end - 1] - begin) * TIMESTAMP_S,
            )
            for start, end in zip(starts, ends, strict=True)
        ]
        if ends_alone:
            return segments, self._seek + size, True
        # What follows the last pair is unfinished: the next window starts there and reads it again.
        last = tokens[ends[-1] - 1] - begin
        return segments, self._seek + last * FRAMES_PER_TIMESTAMP, False

    def _unpaired_seconds(self, tokens: tuple[int, ...], size: int) -> float:
        """Return the length of a window without a pair: to its last timestamp, or all of it."""
        begin = self._tokenizer.timestamp_begin
        timestamps = [token for token in tokens if token >= begin]
        if timestamps and timestamps[-1] != begin:
            return (timestamps[-1] - begin) * TIMESTAMP_S
        return size / FRAMES_PER_SECOND

    def _segment(
        self, result: Attempt, tokens: tuple[int, ...], start: float, end: float
    ) -> Segment:
        """Return a segment whose times are counted from the recording's start."""
        offset = self._seek / FRAMES_PER_SECOND
        text_tokens = [token for token in tokens if token < self._tokenizer.eot]
        return Segment(
            id=0,
            seek=self._seek,
            start=offset + start,
            end=offset + end,
            text=self._tokenizer.decode(text_tokens),
            tokens=list(tokens),
            temperature=result.temperature,
            avg_logprob=result.decoded.avg_logprob,
            compression_ratio=result.compression_ratio,
            no_speech_prob=result.decoded.no_speech_prob,
            flags=list(result.flags),
        )

    def _keep(self, segments: list[Segment], temperature: float) -> None:
        """Number the segments and add them to the history; empty ones lose their tokens first."""
        for segment in segments:
            kept: dict[str, Any] = {"id": len(self.segments)}
            if segment.start == segment.end or not segment.text.strip():
                kept |= {
                    "text": "",
                    "tokens": [],
                    "words": [] if segment.words is not None else None,
                }
            elif is_doubtful_language(self.language_probability) and not any(
                earlier.text for earlier in self.segments
            ):
                # Said once a recording, not for each of its segments.
                kept["flags"] = [*segment.flags, "uncertain_language"]
            self.segments.append(segment.model_copy(update=kept))
        if not self.options.condition_on_previous_text or temperature > HOTTEST_HISTORY:
            num_initial = num_initial_tokens(self._tokenizer, self.options)
            self._prompt_reset_since = num_initial + sum(len(s.tokens) for s in self.segments)
