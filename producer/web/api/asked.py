"""What a request for a transcription asks, in OpenAI's words, and what that is in ours."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from producer.errors import InvalidOptions
from producer.formats import DEFAULT_FORMAT_OPTIONS, to_srt, to_vtt
from producer.job import Options, invalid_options
from producer.options_of_model import fitted
from producer.plain_json import Text
from producer.result import Transcript
from producer.settings import Settings
from producer.web.api.errors import Refusal
from producer.web.api.shapes import transcription, verbose_transcription

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Task = Literal["transcribe", "translate"]

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"

MEDIA_TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
}
# What OpenAI has and no Whisper model does; refused by name rather than ignored.
_OTHERS = {
    "stream": "texts do not come in pieces here; GET /events says when a job has ended",
    "include": "log probabilities are those of verbose_json",
    "chunking_strategy": "windows are Whisper's own",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}
# What clients send for a default of theirs.
_NOTHING: dict[str, set[Any]] = {"stream": {"false", False}, "chunking_strategy": {"auto", None}}
_LISTS = frozenset(
    {"timestamp_granularities", "include", "keywords", "languages", "known_speaker_names"}
)


class AskedTranslation(BaseModel):
    """The fields of a request for a translation into English, beside its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: ClassVar[Task] = "translate"

    model: Annotated[Text, Field(min_length=1, max_length=1000)] = Field(
        description="whisper-1 is the farm's own; GET /v1/models lists the others."
    )
    prompt: Text | None = Field(None, max_length=4000, description="Spelling and style to expect.")
    response_format: ResponseFormat = "json"
    temperature: float = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="0 raises it where text looks wrong."
    )

    def granularities(self) -> tuple[str, ...]:
        """Return the times that are asked for."""
        return ()

    def words(self) -> dict[str, Any]:
        """Return the options of a job that the request names."""
        given: dict[str, Any] = {"task": self.task}
        if self.prompt:
            given["initial_prompt"] = self.prompt
        if self.temperature:
            given["temperatures"] = (self.temperature,)
        return given

    def render(self, transcript: Transcript) -> str | BaseModel:
        """Return the answer: a text, or an object."""
        if self.response_format == "json":
            return transcription(transcript)
        if self.response_format == "verbose_json":
            return verbose_transcription(transcript, self.task, self.granularities())
        if self.response_format == "text":
            return transcript.text.strip() + "\n"
        write = to_srt if self.response_format == "srt" else to_vtt
        return write(transcript, DEFAULT_FORMAT_OPTIONS)


class AskedTranscription(AskedTranslation):
    """The fields of a request for a transcription, beside its file."""

    task: ClassVar[Task] = "transcribe"

    language: Text | None = Field(None, max_length=100, description="Code or English name.")
    languages: tuple[Text, ...] = Field((), max_length=200, description="Detected among these.")
    keywords: tuple[Text, ...] = Field((), max_length=100, description="Words to expect.")
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = Field(
        (), max_length=2, description="Needs verbose_json."
    )

    def granularities(self) -> tuple[str, ...]:
        """Return the times that are asked for."""
        return self.timestamp_granularities

    def words(self) -> dict[str, Any]:
        """Return the options of a job that the request names."""
        given = super().words()
        if self.language:
            given["language"] = self.language
        if self.languages:
            given["allowed_languages"] = self.languages
        if self.keywords:
            given["hotwords"] = ", ".join(self.keywords)
        if "word" in self.timestamp_granularities:
            given["word_timestamps"] = True
        return given


ASKED: dict[str, type[AskedTranslation]] = {
    TRANSCRIPTIONS: AskedTranscription,
    TRANSLATIONS: AskedTranslation,
}


def asked_of(endpoint: str, given: dict[str, Any]) -> AskedTranslation:
    """Return what a request asks for.

    Args:
        endpoint: One of `ASKED`.
        given: Its fields without the file; lists as lists.

    Raises:
        Refusal: a field is unknown, unsupported or out of bounds.
    """
    for name, why in _OTHERS.items():
        if name in given and given.pop(name) not in _NOTHING.get(name, set()):
            raise Refusal(
                InvalidOptions(f"request: {name}", f"is not supported: {why}"), param=name
            )
    try:
        asked = ASKED[endpoint].model_validate(given)
    except ValidationError as error:
        raise Refusal.of_validation(error) from error
    if asked.granularities() and asked.response_format != "verbose_json":
        must = "needs response_format verbose_json"
        name = "timestamp_granularities"
        raise Refusal(InvalidOptions(f"request: {name}", must), param=name)
    return asked


def form_values(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the fields of a form by name; those that end in [] are lists.

    Raises:
        Refusal: a field that is no list comes twice.
    """
    given: dict[str, Any] = {}
    for key, value in fields:
        name = key.removesuffix("[]")
        if name != key or name in _LISTS:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Refusal(InvalidOptions(f"request: {name}", "must come once"), param=name)
        else:
            given[name] = value
    return given


def options_of(asked: AskedTranslation, settings: Settings, model: str) -> Options:
    """Return the options of a job: the settings', with what the request says on top.

    Raises:
        Refusal: there is no such language, or the model cannot do it.
    """
    try:
        options = Options.model_validate({**settings.options.model_dump(), **asked.words()})
    except ValidationError as error:
        raise Refusal(invalid_options("request", error)) from error
    try:
        return fitted(options, model)
    except InvalidOptions as error:
        # What a request cannot name, `task`, is its address.
        name = "model" if error.context == "task" else error.context
        constraint = error.constraint.partition("; name another model")[0]
        refused = InvalidOptions(f"request: {name}", constraint, error.value)
        raise Refusal(refused, param=name) from error


def json_value(answer: str | BaseModel) -> Any:
    """Return an answer as a value of JSON, as lines of a batch hold it."""
    return (
        answer if isinstance(answer, str) else json.loads(answer.model_dump_json(exclude_none=True))
    )
