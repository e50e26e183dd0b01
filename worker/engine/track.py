"""One recording's place in the engine, from its ticket to its transcript."""

import time
from dataclasses import dataclass, field
from typing import cast

from producer.result import Audio, Model, Timing, Transcript
from worker.audio.lanes import Lane
from worker.audio.listening import MAX_SKIPPED
from worker.audio.read_ahead import End, LaneEnd, Reading
from worker.engine.family import Features, Transcription
from worker.engine.lanes import LaneFeatures, LaneTranscription
from worker.engine.messages import Checkpoint, Progress, Ticket
from worker.engine.requests import Requests
from worker.engine.speech import Speech, merged


@dataclass(eq=False)
class Track:
    """One recording on its way through the engine.

    Attributes:
        requests: The transcription's generator, once all audio was read.
        audio: What was read, once it was.
        read_flags: Why a person should listen to the recording itself.
        audio_prep_s: Seconds that reading, decoding and resampling took.
        started: Monotonic time at which decoding began.
        waited: Turns that its batched request has waited for company.
    """

    ticket: Ticket
    transcription: Transcription | LaneTranscription
    features: Features | LaneFeatures
    reading: Reading
    requests: Requests[None] | None = None
    audio: Audio | None = None
    read_flags: tuple[str, ...] = ()
    audio_prep_s: float = 0.0
    started: float = field(default_factory=time.monotonic)
    waited: int = 0

    @property
    def key(self) -> str:
        """By which the engine and the farm know it: the execution's id."""
        return self.ticket.execution_id

    def begin(self, end: End) -> None:
        """Take note that all audio was read: the transcription can start."""
        self.audio, self.audio_prep_s, self.read_flags = end.audio, end.busy_s, end.flags
        self.features.finish()
        skips = self.ticket.job.read_as.vad == "skip-silence"
        whole = LaneEnd(Lane(0, 0), end.speech, end.audio.skipped)
        if isinstance(self.transcription, LaneTranscription):
            features = cast("LaneFeatures", self.features)
            lanes, duration_s = end.lanes or (whole,), end.audio.duration_s
            self.requests = self.transcription.requests(
                features, lanes, duration_s, skips_silence=skips
            )
        else:
            speech = Speech(whole.speech, whole.skipped, skips)
            self.requests = self.transcription.requests(self.features, speech)
        self.started = time.monotonic()

    def progress(self, checkpoint: Checkpoint) -> Progress:
        """Return the event of a signed checkpoint."""
        duration_s = self.audio.duration_s if self.audio else 0.0
        return Progress(self.key, self.transcription.seconds_done, duration_s, checkpoint)

    def transcript(self, audio: Audio, model: Model, peak_memory_bytes: int) -> Transcript:
        """Return the result of a transcription that has ended."""
        transcription = self.transcription
        return Transcript(
            job_id=self.ticket.job_id,
            text=transcription.text,
            language=transcription.language,
            language_probability=transcription.language_probability,
            segments=transcription.segments,
            audio=self._heard(audio),
            model=model,
            timing=self._timing(audio.duration_s, peak_memory_bytes),
            flags=[*self.read_flags, *transcription.flags],
        )

    def _heard(self, audio: Audio) -> Audio:
        """Return what was read, with the silence that the family left out by itself."""
        own = self.transcription.counts.skipped
        if not own:
            return audio
        return audio.model_copy(update={"skipped": merged(audio.skipped, own)[:MAX_SKIPPED]})

    def _timing(self, duration_s: float, peak_memory_bytes: int) -> Timing:
        """Return where the time went; token rates are over the time since decoding began."""
        counts = self.transcription.counts
        decode_s = max(1e-9, time.monotonic() - self.started)
        total_s = self.audio_prep_s + decode_s
        return Timing(
            audio_prep_s=round(self.audio_prep_s, 3),
            decode_s=round(decode_s, 3),
            total_s=round(total_s, 3),
            windows=counts.windows,
            prompt_tokens=counts.prompt_tokens,
            generated_tokens=counts.generated_tokens,
            prompt_tokens_per_s=round(counts.prompt_tokens / decode_s, 1),
            generated_tokens_per_s=round(counts.generated_tokens / decode_s, 1),
            peak_memory_bytes=peak_memory_bytes,
            real_time_factor=round(duration_s / total_s, 2),
        )
