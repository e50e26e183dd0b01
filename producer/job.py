"""A job: a recording, a model and the options of its transcription."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote_to_bytes

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from producer.errors import InvalidOptions
from producer.hints import hint
from producer.job_id import FORMER_DEFAULTS, content_id
from producer.masking import mask_urls
from producer.model_names import canonical_model, may_be_whisper
from producer.plain_json import JsonObject, OutOfBounds, Text, as_text
from producer.replacements import Replacements, check_agree
from producer.source import SourceVersion, is_fetched, is_remote

# The name that RQ jobs carry; the producer never imports the worker.
TASK_NAME = "worker.tasks.transcribe"

# How a path is written as a source whose bytes are not valid UTF-8, which JSON cannot hold.
FILE_URL = "file://"

Temperature = Annotated[float, Field(ge=0.0, le=2.0, allow_inf_nan=False)]
# No vocabulary is larger; what a model does not have is refused where its vocabulary is known.
TokenId = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-fA-F]{64}$", to_lower=True)]
LanguageCode = Annotated[Text, Field(max_length=100)]

# Each is beyond any use, and short enough to cost nothing: 100 languages are known to Whisper, a
# vocabulary has some 50,000 ids, a night's recording a few hundred clips.
MAX_LANGUAGES = 200
MAX_TEMPERATURES = 20
MAX_SUPPRESSED = 10_000
MAX_CLIP_TIMES = 10_000
MAX_BEAMS = 32
MAX_PATIENCE = 10.0
# A value that a message quotes.
_MAX_VALUE_CHARS = 200


def _one_name(model: str | None) -> str | None:
    try:
        return model if model is None else canonical_model(model)
    except InvalidOptions as error:
        raise OutOfBounds(error.constraint, error.value) from error


class Options(BaseModel):
    """How one recording is transcribed; the defaults are those of openai-whisper's command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language: LanguageCode | None = Field(
        None, description="Code or English name, like de or german; detected if absent."
    )
    allowed_languages: tuple[LanguageCode, ...] = Field(
        (), max_length=MAX_LANGUAGES, description="Detection chooses among these."
    )
    multilingual: bool = Field(False, description="Detect the language of each window.")
    on_drift: Literal["flag", "whisper"] = Field(
        "flag",
        description="A model that takes no language wrote another one: flag it, or let drift_model"
        " transcribe the recording anew.",
    )
    drift_model: Text | None = Field(
        None,
        min_length=1,
        max_length=1000,
        validate_default=True,
        description="Whisper model for recordings whose text drifted; needed for on_drift whisper.",
    )
    task: Literal["transcribe", "translate"] = Field(
        "transcribe", description="Write down what is said, or translate it into English."
    )
    temperatures: tuple[Temperature, ...] = Field(
        (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        min_length=1,
        max_length=MAX_TEMPERATURES,
        description="Tried in turn while the text looks wrong; at 0 nothing is drawn.",
    )
    # `producer.quality` names what is set together.
    beam_size: int | None = Field(
        5, ge=1, le=MAX_BEAMS, description="Beams at temperature 0; None, like 1, is greedy."
    )
    best_of: int = Field(5, ge=1, le=16, description="Samples of a window above temperature 0.")
    patience: float | None = Field(
        None,
        gt=0,
        le=MAX_PATIENCE,
        allow_inf_nan=False,
        description="Beam search ends with beam_size times as many hypotheses; None is 1.",
    )
    length_penalty: Probability | None = Field(
        None,
        description="Ranks beams and samples by ((5 + tokens) / 6) ** this; None: by their mean.",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Same seed, same text.")
    compression_ratio_threshold: float | None = Field(
        2.4,
        gt=0,
        allow_inf_nan=False,
        description="Above it, text repeats itself and is tried again.",
    )
    logprob_threshold: float | None = Field(
        -1.0, allow_inf_nan=False, description="Less likely text is tried again."
    )
    no_speech_threshold: Probability | None = Field(
        0.6, description="Unlikely text in a window more probably silent is dropped."
    )
    condition_on_previous_text: bool = Field(
        True, description="Each window sees the text before it."
    )
    initial_prompt: Text | None = Field(
        None, max_length=4000, description="Names, spelling, style to expect."
    )
    carry_initial_prompt: bool = Field(False, description="Give the prompt to every window.")
    hotwords: Text | None = Field(
        None, max_length=1000, description="Words to expect, every window."
    )
    word_timestamps: bool = Field(False, description="Times and probabilities of words.")
    hallucination_silence_threshold: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Skip longer silences around invented text, in seconds; needs word times.",
    )
    without_timestamps: bool = Field(False, description="Text only, no times.")
    max_initial_timestamp: float | None = Field(
        1.0,
        ge=0.0,
        le=30.0,
        allow_inf_nan=False,
        description="Latest start of a window's first segment, in seconds.",
    )
    suppress_blank: bool = Field(True, description="A window does not start with a blank.")
    suppress_tokens: tuple[TokenId, ...] = Field(
        (-1,),
        max_length=MAX_SUPPRESSED,
        description="Token ids never sampled; -1 stands for all non-speech symbols.",
    )
    clip_timestamps: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(
        (),
        max_length=MAX_CLIP_TIMES,
        description="Only these parts: start,end,start,end,... in seconds.",
    )
    sample_len: int | None = Field(None, ge=1, le=448, description="Most tokens in a window.")
    replacements: Replacements = Field(
        (), description="Glossary: pairs of wrong and right phrases, replaced after decoding."
    )
    replacements_ignore_case: bool = Field(
        False, description="Find the wrong phrases of a glossary in capitals too."
    )

    @model_validator(mode="after")
    def _words_before_silence(self) -> Self:
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            msg = "hallucination_silence_threshold needs word_timestamps"
            raise ValueError(msg)
        return self

    @field_validator("multilingual")
    @classmethod
    def _one_language_or_many(cls, multilingual: bool, asked: ValidationInfo) -> bool:
        if multilingual and asked.data.get("language") is not None:
            msg = "detects each window's language: it needs language to be absent"
            raise ValueError(msg)
        return multilingual

    @field_validator("drift_model")
    @classmethod
    def _a_whisper_for_drift(cls, model: str | None, asked: ValidationInfo) -> str | None:
        """Take any name by which a model is known, as `Job.model` does."""
        name = _one_name(model)
        if name is None and asked.data.get("on_drift") == "whisper":
            msg = "is needed for on_drift = whisper: a Whisper model that a worker has"
            raise ValueError(msg)
        if name is not None and not may_be_whisper(name):
            msg = "must be a Whisper model: a Parakeet takes no language either"
            raise ValueError(msg)
        return name

    @field_validator("patience")
    @classmethod
    def _patience_of_beams(cls, patience: float | None, asked: ValidationInfo) -> float | None:
        beam_size = asked.data.get("beam_size")
        if patience is None or "beam_size" not in asked.data:
            return patience
        if beam_size is None:
            msg = "needs beam_size"
            raise ValueError(msg)
        if round(beam_size * patience) < 1:
            msg = f"times {beam_size} beams must round to 1 hypothesis or more"
            raise ValueError(msg)
        return patience

    @model_validator(mode="after")
    def _one_replacement_a_phrase(self) -> Self:
        check_agree(self.replacements, ignore_case=self.replacements_ignore_case)
        return self


class AudioOptions(BaseModel):
    """How one recording is read, as far as its text depends on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resampler: Literal["ffmpeg", "ffmpeg6", "soxr_hq", "linear"] = Field(
        "ffmpeg", description="What makes 16 kHz of other rates; see the table of formats."
    )
    damaged: Literal["refuse", "salvage"] = Field(
        "refuse", description="salvage transcribes what a damaged file still gives."
    )
    vad: Literal["off", "skip-silence"] = Field(
        "off", description="Long stretches without speech: transcribed, or skipped."
    )
    channels: Literal["mix", "split"] | Annotated[int, Field(ge=1, le=64)] = Field(
        "mix", description="split transcribes each channel apart; a number takes one, from 1."
    )
    tracks: Literal["first", "mix", "split"] | Annotated[int, Field(ge=1, le=64)] = Field(
        "first", description="Of a file with several sounds: FFmpeg's choice, all, or one, from 1."
    )

    @model_validator(mode="after")
    def _one_kind_of_split(self) -> Self:
        if self.tracks in {"mix", "split"} and self.channels == "split":
            msg = f"tracks = {self.tracks} needs channels that are not split"
            raise ValueError(msg)
        return self


class Job(BaseModel):
    """One recording to transcribe: the arguments of `worker.tasks.transcribe`.

    Only `source` is required. Another program may enqueue the task with just these keyword
    arguments through RQ; unknown ones are refused as `invalid_options`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Text = Field(
        min_length=1,
        max_length=4096,
        description="Path as the worker sees it, or an address: http, https, s3.",
    )
    model: Text | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Model that must give the text, by any of its names; None takes the worker's.",
    )
    revision: Text | None = Field(
        None, min_length=1, max_length=200, description="Of the model; None takes any."
    )
    options: Options = Options()
    audio: AudioOptions | None = Field(
        None,
        description="How it is read; None takes the defaults of [audio] where it is submitted.",
    )
    batch: Text | None = Field(None, max_length=200, description="The batch that counts this job.")
    name: Text | None = Field(
        None, max_length=4096, description="Path within the archive: where results are written."
    )
    metadata: JsonObject = Field(
        default_factory=dict, description="Yours: comes back in the result, unread."
    )
    audio_sha256: Sha256 | None = Field(None, description="Hash of the audio's bytes, if known.")
    version: SourceVersion | None = Field(
        None, description="Of a source that is no file: what its server said when it was submitted."
    )

    @field_validator("model")
    @classmethod
    def _one_name_of_a_model(cls, name: str | None) -> str | None:
        """Take any name by which a model is known; the farm has one for each."""
        return _one_name(name)

    @model_validator(mode="after")
    def _revision_of_a_model(self) -> Self:
        if self.revision is not None and self.model is None:
            msg = "revision needs model"
            raise ValueError(msg)
        return self

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Self:
        """Validate the keyword arguments of an RQ job.

        Raises:
            InvalidOptions: a misspelt key or a value out of bounds, named with its limit.
        """
        try:
            return cls.model_validate(kwargs)
        except ValidationError as error:
            raise invalid_options("job", error) from error

    @property
    def path(self) -> Path:
        """Return `source` as a path to open; `file://` URLs carry names that are not UTF-8.

        Of no meaning where a worker fetches the source.
        """
        if self.source.startswith(FILE_URL):
            return Path(os.fsdecode(unquote_to_bytes(self.source.removeprefix(FILE_URL))))
        return Path(self.source)

    @property
    def location(self) -> str:
        """Return what a worker opens, as text: the path, or the address that it fetches."""
        return self.source if is_fetched(self.source) else str(self.path)

    @property
    def identity(self) -> str | None:
        """Return what stands for the audio in the job's id: its hash, or else its version's.

        None while neither is known. On a server's word a hash counts only if the worker finds it.
        """
        if self.audio_sha256 is None and self.version is not None and is_remote(self.source):
            return self.version.identity(self.source)
        return self.audio_sha256

    @property
    def read_as(self) -> AudioOptions:
        """Return how the recording is read: as asked, else as by default."""
        return self.audio or AudioOptions()

    def to_kwargs(self) -> dict[str, Any]:
        """Return the keyword arguments that `from_kwargs` reads, without the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def content_id(self, identity: str) -> str:
        """Return the job's id: 32 hex digits over all that its text depends on.

        Args:
            identity: What stands for the audio, as `identity` has it.
        """
        return content_id(
            identity,
            (self.model, self.revision),
            self.options.model_dump(mode="json"),
            self.read_as.model_dump(mode="json"),
        )

    def as_meant(self, job_id: str) -> Self:
        """Return the job with the defaults of when its id was made.

        A job's data leaves defaults out, but its id is of their values: those count.

        Args:
            job_id: The job's; one that is no hash of its content says nothing.
        """
        unsaid = FORMER_DEFAULTS.keys() - self.options.model_fields_set
        meant = {name: FORMER_DEFAULTS[name] for name in unsaid}
        former = self.model_copy(update={"options": self.options.model_copy(update=meant)})
        is_former = self.identity is not None and former.content_id(self.identity) == job_id
        return former if is_former else self


def invalid_options(context: str, error: ValidationError) -> InvalidOptions:
    """Name the first wrong key of a pydantic error, with the bound and the value."""
    first = error.errors(include_url=False)[0]
    key = ".".join(as_text(str(part), _MAX_VALUE_CHARS) for part in first["loc"])
    constraint, value = first["msg"].removeprefix("Value error, "), first["input"]
    if first["type"] == "extra_forbidden":
        known = [*Options.model_fields, *AudioOptions.model_fields, *Job.model_fields]
        constraint = "no such option" + hint(str(first["loc"][-1]), known)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, OutOfBounds):
        constraint, value = cause.constraint, cause.found
    if isinstance(value, str):
        value = as_text(mask_urls(value[: 5 * _MAX_VALUE_CHARS]), _MAX_VALUE_CHARS)
    is_short = isinstance(value, str | float | bool) or (isinstance(value, int) and _fits(value))
    return InvalidOptions(
        f"{context}: {key}" if key else context, constraint, value if is_short else None
    )


def _fits(number: int) -> bool:
    """Return whether every reader of JSON takes the number: beyond 64 bits some do not."""
    return -(2**63) <= number < 2**63
