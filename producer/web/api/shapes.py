"""What OpenAI's answers hold, as models: https://platform.openai.com/docs/api-reference/audio."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from producer.languages import LANGUAGES
from producer.result import Segment, Transcript

Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


class Usage(Shape):
    """What was heard, in seconds of audio."""

    type: Literal["duration"] = "duration"
    seconds: float


class Transcription(Shape):
    """`response_format=json`."""

    text: str
    usage: Usage


class WordShape(Shape):
    """A word with its times in seconds."""

    word: str
    start: float
    end: float


class SegmentShape(Shape):
    """A segment as openai-whisper has it; 0 where the model of another family has no such figure."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class VerboseTranscription(Shape):
    """`response_format=verbose_json`; words and segments as `timestamp_granularities` asks."""

    task: Literal["transcribe", "translate"]
    language: str = Field(description="English name, like german.")
    duration: float = Field(description="Seconds of audio.")
    text: str
    segments: list[SegmentShape] | None = None
    words: list[WordShape] | None = None
    usage: Usage


class ModelShape(Shape):
    """A model that may be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "scribefarm"


class ModelList(Shape):
    """All models that may be asked for."""

    object: Literal["list"] = "list"
    data: list[ModelShape]


class FileShape(Shape):
    """A file that was uploaded, or that a batch gives."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Seconds since the epoch.")
    expires_at: int | None = None
    filename: str
    purpose: Literal["batch", "batch_output", "user_data"]
    status: Literal["uploaded", "processed", "error"] = "processed"


class FileList(Shape):
    """A page of files; go on with `after=last_id` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[FileShape]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Deleted(Shape):
    """That something was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class LineError(Shape):
    """What is wrong with a line of a batch's file."""

    code: str | None = None
    line: int | None = None
    message: str | None = None
    param: str | None = None


class LineErrors(Shape):
    """The first damaged lines of a batch; the error file has them all."""

    object: Literal["list"] = "list"
    data: list[LineError]


class RequestCounts(Shape):
    """How many lines of a batch stand where."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchShape(Shape):
    """A batch of requests; times are seconds since the epoch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: LineErrors | None = None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, str] | None = None


class BatchList(Shape):
    """A page of batches; go on with `after=last_id` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[BatchShape]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


def transcription(transcript: Transcript) -> Transcription:
    """Return the short form of a transcript."""
    seconds = transcript.audio.duration_s
    return Transcription(text=transcript.text.strip(), usage=Usage(seconds=seconds))


def verbose_transcription(
    transcript: Transcript, task: Literal["transcribe", "translate"], granularities: tuple[str, ...]
) -> VerboseTranscription:
    """Return the long form, with the times that were asked for: by default segments."""
    words = [
        WordShape(word=word.word.strip(), start=word.start, end=word.end)
        for segment in transcript.segments
        for word in segment.words or ()
    ]
    segments = [_segment(segment) for segment in transcript.segments]
    return VerboseTranscription(
        task=task,
        language=LANGUAGES.get(transcript.language, transcript.language),
        duration=transcript.audio.duration_s,
        text=transcript.text.strip(),
        segments=segments if "segment" in granularities or not granularities else None,
        words=words if "word" in granularities else None,
        usage=Usage(seconds=transcript.audio.duration_s),
    )


def _segment(segment: Segment) -> SegmentShape:
    told = segment.model_dump(include=set(SegmentShape.model_fields))
    # Clients expect numbers; null is what a model says that has none.
    numbers = {name: told[name] or 0.0 for name in ("temperature", "no_speech_prob")}
    return SegmentShape.model_validate(told | numbers)
