"""Results: a transcript or a typed failure, as versioned JSON under one key."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from producer.errors import ScribefarmError, Unreadable
from producer.plain_json import as_text

SCHEMA_VERSION: Final = 1
# In `Transcript.flags`: a model of English alone most likely heard another language.
LIKELY_NOT_ENGLISH: Final = "likely_not_english"
# In `Segment.flags`: its text is in another language than the one that was asked for.
LANGUAGE_DRIFT: Final = "language_drift"
# Of a foreign id, in a message.
_MAX_QUOTED = 200
# No version will ever have it: a larger number is damage.
_MAX_SCHEMA = 1_000_000


class _Stored(BaseModel):
    """A record that is read back by later versions: unknown fields are kept out, not refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Word(_Stored):
    """One word with its times in seconds, and the probability of its tokens.

    That is their mean; of Parakeet, as NeMo counts it, that of the least likely one.
    """

    word: str
    start: float
    end: float
    probability: float


class Segment(_Stored):
    """A stretch of text between two timestamps, and the figures by which it is judged.

    A figure that the model's family does not have is None.

    Attributes:
        seek: Mel frame (10 ms) at which the segment's window, or piece, starts.
        start: Seconds from the start of the recording.
        end: Seconds from the start of the recording.
        tokens: Token ids, timestamps included.
        temperature: Sampling temperature that gave the text; 0 is greedy. None: nothing is sampled.
        avg_logprob: Mean log-probability of the window's tokens; of Parakeet, of the segment's.
        compression_ratio: UTF-8 bytes of the window's text over its zlib bytes.
        no_speech_prob: Probability of "no speech" at the window's start. None: the model has none.
        flags: Why a person should look: `repetition` (the text compresses well, or a phrase comes
            four times in a row), `low_confidence`, `likely_silence` (also where neither text nor
            silence is clearly more likely), `uncertain_language` (the recording's, detected with a
            probability of at most one half; on its first segment, or with `multilingual` on its
            window's), `fallback_exhausted` (no temperature gave acceptable text; the last attempt
            is kept), `language_drift` (the text is in another language than the one that was asked
            for).
        confidence: Mean probability of the segment's words, 0..1; None if the family has none.
        channel: From 1, where channels were transcribed apart.
        track: From 1, where the tracks of a file were.
        language: Of the segment's window, where `options.multilingual` had each window's detected.
        language_probability: Of that language.
    """

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float | None = None
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float | None = None
    flags: list[str] = []
    words: list[Word] | None = None
    confidence: float | None = None
    channel: int | None = None
    track: int | None = None
    language: str | None = None
    language_probability: float | None = None


class Lost(_Stored):
    """A part of a damaged recording that could not be read, or only with wrong samples.

    Attributes:
        start_s: Where it is, in the recording as it was read: nothing stands in for what is missing.
        duration_s: How long it was; None if the file does not tell.
        reason: What the decoder said.
    """

    start_s: float
    duration_s: float | None = None
    reason: str


class Replacement(_Stored):
    """What a glossary changed in a segment.

    Attributes:
        segment: Id of the segment.
        wrong: The glossary's phrase that was found.
        right: What stands in its place.
        count: How often.
    """

    segment: int
    wrong: str
    right: str
    count: int


class Audio(_Stored):
    """What was read: duration in seconds at the source's own rate and channels.

    Attributes:
        sha256: Of the file's bytes, in hex; None if the worker did not hash them.
        lost: What damage took, with `audio.damaged = "salvage"`.
        format: Container and codec.
        loudness_dbfs: Mean power of all samples in dB of full scale (FFmpeg's `volumedetect`); None
            for digital silence.
        clipping_share: Share of the samples at full scale, 0..1.
        silence_share: Share of the time in which nobody speaks, 0..1; None if nobody listened.
        snr_db: Speech over what is heard in its pauses, estimated; None without both.
        tracks: Sounds that the file holds side by side.
        tags: What the file says of itself: title, artist, album, date, creation_time, and of a
            Broadcast Wave file originator, originator_reference and time_reference (samples since
            midnight).
        skipped: Silent stretches that were not transcribed, as (start, end) in seconds; see
            `audio.vad`. 5,000 at most.
    """

    duration_s: float
    sample_rate_hz: int
    channels: int
    format: str
    sha256: str | None = Field(None, description="Hash of the file's bytes that were read.")
    lost: list[Lost] = []
    loudness_dbfs: float | None = None
    clipping_share: float | None = None
    silence_share: float | None = None
    snr_db: float | None = None
    tracks: int = 1
    tags: dict[str, str] = {}
    skipped: list[tuple[float, float]] = []


class Model(_Stored):
    """Which weights gave the text."""

    name: str
    revision: str
    dtype: str


class Timing(_Stored):
    """Where the time went, in seconds, and what was generated."""

    queue_s: float = 0.0
    audio_prep_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0
    windows: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    prompt_tokens_per_s: float = 0.0
    generated_tokens_per_s: float = 0.0
    peak_memory_bytes: int = 0
    real_time_factor: float = Field(0.0, description="Audio seconds per second of work.")


class _Outcome(_Stored):
    """What both outcomes of a job begin with."""

    model_config = ConfigDict(populate_by_name=True)

    schema_version: Literal[1] = Field(SCHEMA_VERSION, alias="schema")
    job_id: str
    status: str
    source: str = ""
    trace_id: str = Field("", description="Trace that the job was submitted in; W3C's trace-id.")


class Transcript(_Outcome):
    """The text of one recording."""

    status: Literal["succeeded"] = "succeeded"
    text: str
    language: str
    language_probability: float | None = Field(
        None, description="Of the language; None if it was not detected."
    )
    segments: list[Segment]
    audio: Audio
    model: Model
    timing: Timing
    flags: list[str] = []
    replacements: list[Replacement] = Field([], description="What a glossary changed.")
    metadata: dict[str, Any] = {}
    worker: str = ""


class ErrorRecord(_Stored):
    """A typed error as it is stored; see `producer.errors` for the codes."""

    code: str
    context: str
    constraint: str
    value: Any = None
    message: str
    retryable: bool


class Failure(_Outcome):
    """Why there is no text for one recording, with every attempt that was made."""

    status: Literal["failed"] = "failed"
    error: ErrorRecord
    attempts: list[ErrorRecord] = []
    metadata: dict[str, Any] = {}
    worker: str = ""

    @classmethod
    def from_error(cls, job_id: str, error: ScribefarmError, **fields: Any) -> "Failure":
        """Store an error as the outcome of a job."""
        return cls(job_id=job_id, error=ErrorRecord(**error.to_dict()), **fields)


Result = Annotated[Transcript | Failure, Field(discriminator="status")]
_RESULT: TypeAdapter[Transcript | Failure] = TypeAdapter(Result)


def parse_result(stored: str | bytes) -> Transcript | Failure:
    """Read a result key's JSON.

    Raises:
        Unreadable: a newer version wrote it, or it is damaged.
    """
    try:
        return _RESULT.validate_json(stored)
    except ValueError as error:
        schema = _schema_of(stored)
        if schema not in (None, SCHEMA_VERSION):
            newer = (
                f"must have schema {SCHEMA_VERSION}: written by a newer scribefarm, update this one"
            )
            raise Unreadable("result", newer, schema) from error
        raise Unreadable("result", "must be a result's JSON; it is damaged") from error


def read_stored(job_id: str, stored: str | bytes) -> Transcript | Failure:
    """Read what a job's result key holds; a `Failure` with code `unreadable` says what is wrong.

    So one odd result costs a batch no other.
    """
    try:
        result = parse_result(stored)
    except Unreadable as error:
        return Failure.from_error(job_id, error)
    if result.job_id == job_id:
        return result
    other = as_text(result.job_id, _MAX_QUOTED)
    return Failure.from_error(job_id, Unreadable("result", "must name its own job", other))


def _schema_of(stored: str | bytes) -> int | None:
    try:
        document = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    schema = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, int) and 0 <= schema < _MAX_SCHEMA else None


def dump_result(result: Transcript | Failure) -> str:
    """Return the JSON of a result key."""
    return result.model_dump_json(by_alias=True)


def outcome_fields(result: Transcript | Failure) -> dict[str, str]:
    """Return what batches need of a result, for the job's hash: views read no transcripts."""
    if isinstance(result, Failure):
        return {
            "code": result.error.code,
            "audio_s": "0",
            "num_flagged": "0",
            "is_empty": "0",
            "flags": "",
            "model": "",
            "language": "",
        }
    return {
        "code": "",
        "audio_s": f"{result.audio.duration_s:.3f}",
        "num_flagged": str(sum(bool(segment.flags) for segment in result.segments)),
        "is_empty": "0" if result.text.strip() else "1",
        "flags": ",".join(result.flags),
        "model": f"{result.model.name}@{result.model.revision}",
        "language": result.language,
    }
