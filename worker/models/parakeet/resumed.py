"""What a checkpoint of a Parakeet transcription holds beside segments."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter, ValidationError

from worker.engine.messages import Checkpoint

# Samples of a recording; a larger number is damage.
Sample = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e8, allow_inf_nan=False)]


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint's `state` holds for this family.

    Attributes:
        position: Sample at which the next piece begins.
        skipped: Silent stretches so far, in seconds.
    """

    position: Sample
    skipped: tuple[tuple[Seconds, Seconds], ...] = ()

    # A state of another shape is refused, never read in part.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def to_state(self) -> dict[str, Any]:
        """Return the JSON values of `Checkpoint.state`."""
        return {"position": self.position, "skipped": [list(span) for span in self.skipped]}

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint | None) -> "Resumed | None":
        """Return what `to_state` wrote; None if there is none, or it is damaged."""
        try:
            return _RESUMED.validate_python(checkpoint.state) if checkpoint else None
        except ValidationError:
            return None


_RESUMED = TypeAdapter(Resumed)
