"""What a checkpoint of a Whisper transcription holds beside segments and language."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from worker.engine.messages import Checkpoint

# Frames and tokens of a recording; a larger number is damage.
Count = Annotated[int, Field(ge=0, le=10**9)]


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint's `state` holds for this family, beside segments and language.

    Attributes:
        seek: Next mel frame (10 ms) to decode.
        prompt_reset_since: How many tokens of the initial prompt and of the segments later
            windows are not conditioned on.
        last_speech_s: Seconds at which the last word so far ends.
        language_probability: Of the language, if it was detected.
    """

    seek: Count
    prompt_reset_since: Count
    last_speech_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    language_probability: Annotated[float, Field(ge=0, le=1)] | None

    # A state of another shape is refused, never read in part.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def to_state(self) -> dict[str, Any]:
        """Return the JSON values of `Checkpoint.state`."""
        return dict(vars(self))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint | None) -> "Resumed | None":
        """Return what `to_state` wrote; None if there is none, or it is damaged."""
        try:
            return _RESUMED.validate_python(checkpoint.state) if checkpoint else None
        except ValidationError:
            return None


_RESUMED = TypeAdapter(Resumed)
