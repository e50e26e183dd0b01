"""One recording, piece by piece: cut at pauses, each transcribed on its own.

A transcription is a generator: it asks for what it needs and is sent the reply. It has no thread,
tensor or batch in it. Pieces stay in order, and behind each of them another worker could go on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from producer.job import Options
from producer.parakeet_options import wanted_languages
from producer.result import LANGUAGE_DRIFT, Segment
from worker.engine.family import Counts
from worker.engine.messages import Checkpoint
from worker.engine.requests import Compute, Requests, ask
from worker.engine.speech import Speech, merged
from worker.models.parakeet.cut import NEXT_TO_NOTHING, RATE_HZ, Piece, Voices, pieces
from worker.models.parakeet.drift import LanguageDetector, Verdict
from worker.models.parakeet.listening import listen
from worker.models.parakeet.requests import Encode, Label, LabelCtc, Recognize
from worker.models.parakeet.resumed import Resumed
from worker.models.parakeet.samples import Samples
from worker.models.parakeet.segments import segments_of, words_of
from worker.models.parakeet.vocabulary import Vocabulary

# Of the time of some text that somebody speaks in; as Whisper's family has it.
LEAST_SPEECH_SHARE = 0.2


@dataclass(frozen=True)
class ModelFacts:
    """What a transcription must know of its model.

    Attributes:
        vocabulary: Its pieces.
        frame_s: Seconds of a frame of the encoder.
        is_ctc: Whether it labels frames, without rows of a stepper.
        hears_speech: Whether it has a voice activity head.
        languages: Codes of those that it writes, English among them.
        detector: Tells them apart by text; None for a model of one language.
    """

    vocabulary: Vocabulary
    frame_s: float
    is_ctc: bool
    hears_speech: bool
    languages: Sequence[str]
    detector: LanguageDetector | None


class Transcription:
    """The state of one recording between two pieces.

    Args:
        options: How it is transcribed; `check_options` has passed them.
        model: What is known of the model.
        checkpoint: Where an earlier run of this model stood; the text goes on as if it had never
            stopped. One that is damaged, or lies behind the recording's end, counts as none.

    Attributes:
        segments: Finished so far.
        counts: What it has taken so far.
    """

    def __init__(
        self, options: Options, model: ModelFacts, checkpoint: Checkpoint | None = None
    ) -> None:
        self.options = options
        self._model = model
        self._wanted = wanted_languages(options)
        self._duration = 0
        self._start(checkpoint)

    def _start(self, checkpoint: Checkpoint | None) -> None:
        """Take up where the checkpoint stands, or at the beginning."""
        self.counts = Counts()
        self.segments: list[Segment] = []
        self._position = 0
        self._verdict: Verdict | None = None
        resumed = Resumed.from_checkpoint(checkpoint)
        if checkpoint is not None and resumed is not None:
            self.segments = list(checkpoint.segments)
            self._position = resumed.position
            self.counts.skipped = list(resumed.skipped)

    @property
    def text(self) -> str:
        """The whole text so far."""
        return "".join(segment.text for segment in self.segments)

    @property
    def language(self) -> str:
        """Code of the language: as asked for, unless the text drifted; else what the text is in."""
        if self.options.language is not None and LANGUAGE_DRIFT not in self.flags:
            return self._wanted[0]
        if self._verdict is not None and self._verdict.language is not None:
            return self._verdict.language
        unheard = [*self._wanted, "en"]
        return next(code for code in unheard if code in self._model.languages)

    @property
    def language_probability(self) -> float | None:
        """Of the language: the share of the text that is in it; None if none was detected."""
        if self._verdict is None or self._verdict.language != self.language:
            return None
        return self._verdict.share

    @property
    def flags(self) -> list[str]:
        """Every reason to look at this recording, each once."""
        return sorted({flag for segment in self.segments for flag in segment.flags})

    @property
    def seconds_done(self) -> float:
        """Seconds of the recording that need not be looked at again."""
        return min(self._position, self._duration) / RATE_HZ

    def checkpoint(self) -> Checkpoint:
        """Return all that another worker needs to go on from here."""
        state = Resumed(self._position, tuple(self.counts.skipped))
        return Checkpoint(tuple(self.segments), None, state.to_state())

    def requests(self, features: Samples, speech: Speech) -> Requests[None]:
        """Go through the recording.

        Args:
            features: Finished.
            speech: No piece begins where it is silent and skipped.

        Yields requests, and a `Checkpoint` after each piece with speech.
        """
        self._duration = features.num_samples
        if self._position > self._duration:
            self._start(None)
        frame_s = self._model.frame_s if self._model.hears_speech else None
        voices = yield from listen(features, speech, frame_s, self._duration)
        clips = clips_of(self.options, self._duration)
        for piece in pieces(voices, clips, speech, self._position):
            yield from self._piece(piece, voices, features, speech)
        yield from self._judge()

    def _piece(
        self, piece: Piece, voices: Voices, features: Samples, speech: Speech
    ) -> Requests[None]:
        """Transcribe a piece; a silent one is left out."""
        is_nothing = piece.end - piece.start < NEXT_TO_NOTHING
        if is_nothing or voices.is_silent(piece):
            self._position = piece.end
            if not is_nothing:
                silence = (round(piece.start_s, 3), round(piece.end_s, 3))
                self.counts.skipped = merged(self.counts.skipped, [silence])
            return
        labels = yield from self._labels(features, piece)
        self.counts.windows += 1
        self.counts.generated_tokens += len(labels)
        words = words_of(labels, self._model.vocabulary, piece, self._model.frame_s)
        with_words = self.options.word_timestamps
        for segment in segments_of(words, piece, with_words=with_words):
            self._keep(segment, speech)
        self._position = piece.end
        yield self.checkpoint()

    def _labels(self, features: Samples, piece: Piece) -> Requests[Sequence[Label]]:
        samples = features.samples(piece.start, piece.end)
        if self._model.is_ctc:
            return (yield from ask(LabelCtc(samples)))
        encoded = yield from ask(Encode(samples))
        return (yield from ask(Recognize(encoded)))

    def _keep(self, segment: Segment, speech: Speech) -> None:
        """Number a segment, and flag it if hardly anybody speaks meanwhile."""
        kept: dict[str, object] = {"id": len(self.segments)}
        spoken_s = speech.seconds_within(segment.start, segment.end)
        if spoken_s < LEAST_SPEECH_SHARE * (segment.end - segment.start):
            kept["flags"] = [*segment.flags, "likely_silence"]
        self.segments.append(segment.model_copy(update=kept))

    def _judge(self) -> Requests[None]:
        """Find out which language the text is in."""
        detector = self._model.detector
        if detector is None or not self.segments:
            return
        judge = partial(detector.judge, tuple(self.segments), self._wanted)
        self._verdict = yield from ask(Compute(judge))
        self.segments = self._verdict.segments


def clips_of(options: Options, duration: int) -> list[tuple[int, int]]:
    """Return the stretches to transcribe, in samples, within the recording."""
    points = [round(point * RATE_HZ) for point in options.clip_timestamps] or [0]
    if len(points) % 2:
        points.append(duration)
    return [
        (start, min(end, duration)) for start, end in zip(points[::2], points[1::2], strict=True)
    ]
