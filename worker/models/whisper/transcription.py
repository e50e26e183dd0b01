"""One recording, window by window, as openai-whisper's `transcribe` goes through it.

A transcription is a generator: it asks for what it needs and is sent the reply. It has no thread,
tensor or batch in it. The engine drives many at once and batches windows of different recordings;
within a recording windows stay sequential, so its text is what Whisper gives for that file alone.
"""

import math
from typing import Any

from producer.errors import InvalidOptions
from producer.job import Options
from producer.result import LIKELY_NOT_ENGLISH, Segment, Word
from worker.device.decode_request import BeamSearch, Decode, RowRules
from worker.engine.family import Counts
from worker.engine.messages import Checkpoint
from worker.engine.requests import Requests, ask
from worker.engine.speech import Speech
from worker.models.whisper.clips import clips
from worker.models.whisper.fallback import Attempt, is_doubtful_language, likeliest
from worker.models.whisper.limits import ModelLimits
from worker.models.whisper.other_language import is_likely_not_english
from worker.models.whisper.prompt import num_initial_tokens, row_rules, window_prompt
from worker.models.whisper.requests import Encode
from worker.models.whisper.resumed import Resumed
from worker.models.whisper.seeds import derive_seed
from worker.models.whisper.segments import cut_window
from worker.models.whisper.spoken_language import SpokenLanguage, main_language
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.unheard import is_no_speech, is_unheard
from worker.models.whisper.word_timing import FRAMES_PER_SECOND, WINDOW_FRAMES, Window
from worker.models.whisper.words import WordTimes

# A history that was sampled this hot is no help to the next window.
HOTTEST_HISTORY = 0.5


class Transcription:
    """The state of one recording between two windows.

    Args:
        options: How it is transcribed; `check_options` has passed them.
        limits: The model's vocabulary and context.
        checkpoint: Where an earlier run of this model stood; the text goes on as if it had never
            stopped. One that is damaged, or lies behind the audio's last window, counts as none.

    Attributes:
        segments: Finished so far.
        counts: What it has taken so far.
    """

    def __init__(
        self, options: Options, limits: ModelLimits, checkpoint: Checkpoint | None = None
    ) -> None:
        self.content_frames = 0
        self.options = options
        self.limits = limits
        self.counts = Counts()
        self._speech = Speech()
        try:
            self._start(checkpoint)
        except InvalidOptions:
            # `check_options` has passed the job's own language: the checkpoint's is not the model's.
            self._start(None)

    def _start(self, checkpoint: Checkpoint | None) -> None:
        """Take up where the checkpoint stands, or at the beginning."""
        resumed = Resumed.from_checkpoint(checkpoint)
        if checkpoint is None or resumed is None:
            checkpoint, resumed = Checkpoint(), Resumed(0, 0, 0.0, None)
        self.segments = list(checkpoint.segments)
        self._spoken = SpokenLanguage(
            self.limits.n_vocab,
            self.options,
            checkpoint.language or self.options.language,
            resumed.language_probability,
        )
        self._seek = resumed.seek
        self._prompt_reset_since = resumed.prompt_reset_since
        self._words = WordTimes(self.options, resumed.last_speech_s)
        self._first_window: tuple[int, Any] | None = None

    @property
    def language(self) -> str:
        """Code of the language that is transcribed; English until it is known.

        With `options.multilingual` that of most of the time with text.
        """
        return self._main_language[0] or self._tokenizer.language or "en"

    @property
    def language_probability(self) -> float | None:
        """Of that language; None if it was not detected."""
        return self._main_language[1]

    @property
    def _main_language(self) -> tuple[str | None, float | None]:
        if self.options.multilingual:
            return main_language(self.segments)
        return self._spoken.code, self._spoken.probability

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._spoken.tokenizer

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
        flags = {flag for segment in self.segments for flag in segment.flags}
        return sorted(flags | {LIKELY_NOT_ENGLISH} if self._is_likely_not_english else flags)

    @property
    def _is_likely_not_english(self) -> bool:
        if self._tokenizer.is_multilingual and not self.limits.knows_english_alone:
            return False
        return self.language != "en" or is_likely_not_english(self.segments, self.content_frames)

    def checkpoint(self) -> Checkpoint:
        """Return all that another worker needs to go on from here."""
        state = Resumed(
            self._seek,
            self._prompt_reset_since,
            self._words.last_speech_s,
            self._spoken.probability,
        )
        return Checkpoint(tuple(self.segments), self._spoken.code, state.to_state())

    def requests(self, features: Any, speech: Speech) -> Requests[None]:
        """Go through the recording's mel frames (10 ms, whole ones).

        Args:
            features: A `LogMel`, finished; only its `content_frames` are looked at here.
            speech: No window begins where it is silent and skipped. Windows reach into such a
                stretch as far as they always did.

        Yields requests, and a `Checkpoint` after each window.
        """
        self.content_frames = features.content_frames
        self._speech = speech
        # The last window's timestamps may point behind the end, but into that window.
        if self._seek > self.content_frames + WINDOW_FRAMES:
            self._start(None)
        if not self.options.multilingual:
            if self._spoken.code is None:
                yield from self._detect_language(features)
            self._spoken.code = self.language
        for start, end in clips(self.options, self.content_frames):
            self._seek = self._after_silence(max(self._seek, start))
            while self._seek < end:
                yield from self._window(features, end)
                self._first_window = None
                yield self.checkpoint()
                self._seek = self._after_silence(self._seek)

    def _after_silence(self, seek: int) -> int:
        """Return the frame itself, or the first one behind the skipped silence that it is in."""
        seconds = seek / FRAMES_PER_SECOND
        after = self._speech.after_silence(seconds)
        return math.ceil(after * FRAMES_PER_SECOND) if after > seconds else seek

    def _detect_language(self, features: Any) -> Requests[None]:
        """Choose the likeliest (allowed) language of the first 30 s behind skipped silence."""
        seek = self._after_silence(0)
        if not self._tokenizer.is_multilingual or (seek and seek >= self.content_frames):
            return
        states = yield from ask(Encode(seek, WINDOW_FRAMES, for_language=True, features=features))
        yield from self._spoken.detect(states)
        if self.content_frames - seek >= WINDOW_FRAMES:
            # No silence was needed to fill it: this is the first window, encoded already.
            self._first_window = seek, states

    def _window(self, features: Any, end: int) -> Requests[None]:
        """Decode the window at `seek`, keep its segments, and move on."""
        size = min(WINDOW_FRAMES, self.content_frames - self._seek, end - self._seek)
        first_seek, states = self._first_window or (None, None)
        if first_seek != self._seek or size < WINDOW_FRAMES:
            states = yield from ask(Encode(self._seek, size, features=features))
        if self.options.multilingual:
            yield from self._spoken.detect(states)
        self.counts.windows += 1
        attempt = yield from self._decode_with_fallback(states)
        if attempt.should_skip or self._is_no_speech(attempt, size):
            self._seek += size
            return
        cut = cut_window(attempt, self._tokenizer, self._seek, size)
        segments: list[Segment] | None = cut.segments
        next_seek = cut.next_seek
        if self.options.word_timestamps:
            window = Window(self._seek, size, self.content_frames)
            segments, next_seek = yield from self._words.add(states, cut, window, self._tokenizer)
        self._seek = next_seek
        if segments is not None:
            self._keep(segments, attempt.temperature)

    def _decode_with_fallback(self, states: Any) -> Requests[Attempt]:
        """Try the temperatures in turn until one needs no fallback; the last one counts anyway."""
        options = self.options
        history = [token for segment in self.segments for token in segment.tokens]
        prompt, sot_index = window_prompt(
            self._tokenizer, options, history, self._prompt_reset_since, self.limits.context_length
        )
        rules = row_rules(self._tokenizer, options)
        first_text = None
        for number, temperature in enumerate(options.temperatures):
            request = self._decode(
                states, prompt, sot_index, rules, temperature=temperature, attempt=number
            )
            candidates = yield from ask(request)
            self.counts.prompt_tokens += len(prompt)
            self.counts.generated_tokens += sum(len(each.tokens) for each in candidates)
            decoded = likeliest(candidates, options.length_penalty)
            text = self._tokenizer.decode(decoded.tokens).strip()
            attempt = Attempt(decoded, temperature, text, options, first_text)
            if not attempt.needs_fallback:
                break
            first_text = text if first_text is None else first_text
        return attempt

    def _decode(
        self,
        states: Any,
        prompt: tuple[int, ...],
        sot_index: int,
        rules: RowRules,
        *,
        temperature: float,
        attempt: int,
    ) -> Decode:
        """Return the request of one attempt at the window at `seek`."""
        samples = range(self.options.best_of if temperature > 0 else 1)
        return Decode(
            encoder_states=states,
            prompt=prompt,
            sot_index=sot_index,
            no_speech=self._tokenizer.no_speech,
            eot=self._tokenizer.eot,
            max_tokens=self._max_tokens(len(prompt)),
            rules=rules,
            temperature=temperature,
            seeds=tuple(
                derive_seed(self.options.seed, self._seek, attempt, sample) for sample in samples
            ),
            search=self._search() if temperature == 0 else None,
        )

    def _search(self) -> BeamSearch | None:
        """Return the search of attempts at temperature 0; one impatient beam is the greedy choice."""
        size, patience = self.options.beam_size, self.options.patience
        search = BeamSearch(size or 1, patience or 1.0)
        return search if search.size > 1 or search.num_wanted > 1 else None

    def _max_tokens(self, prompt_length: int) -> int:
        """Return how many tokens may be sampled; the reference stops past a full context."""
        asked = self.options.sample_len or self.limits.context_length // 2
        return min(asked, self.limits.context_length + 1 - prompt_length)

    def _keep(self, segments: list[Segment], temperature: float) -> None:
        """Number the segments and add them to the history; empty ones lose their tokens first."""
        for segment in segments:
            kept: dict[str, Any] = {"id": len(self.segments)}
            if self.options.multilingual:
                kept["language"] = self._spoken.code
                kept["language_probability"] = self._spoken.probability
            unheard = is_unheard(segment, self._speech, self.content_frames)
            is_empty = segment.start == segment.end or not segment.text.strip()
            # Where silence is skipped, so is what a window invents in the silence that it reaches.
            if is_empty or (unheard and self._speech.skipped):
                words: list[Word] | None = [] if segment.words is not None else None
                kept |= {"text": "", "tokens": [], "words": words}
            else:
                kept["flags"] = self._flags_of(segment, unheard=unheard)
            self.segments.append(segment.model_copy(update=kept))
        if not self.options.condition_on_previous_text or temperature > HOTTEST_HISTORY:
            num_initial = num_initial_tokens(self._tokenizer, self.options)
            self._prompt_reset_since = num_initial + sum(len(s.tokens) for s in self.segments)

    def _is_no_speech(self, attempt: Attempt, size: int) -> bool:
        """Return whether the window at `seek` is skipped as silence is, where silence is skipped."""
        if not self._speech.skips_silence:
            return False
        start, end = self._seek / FRAMES_PER_SECOND, (self._seek + size) / FRAMES_PER_SECOND
        speech_s = self._speech.seconds_within(start, end)
        return is_no_speech(attempt, speech_s)

    def _flags_of(self, segment: Segment, *, unheard: bool) -> list[str]:
        """Return a segment's flags, with those that the whole recording is needed for."""
        flags = list(segment.flags)
        if unheard and "likely_silence" not in flags:
            flags.append("likely_silence")
        # Said once for each detection, not for each segment of its text.
        is_once = not self.options.multilingual
        told = (each.text for each in self.segments if is_once or each.seek == segment.seek)
        if not any(told) and is_doubtful_language(self._spoken.probability):
            flags.append("uncertain_language")
        return flags
