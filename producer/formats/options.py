"""How subtitles are broken into lines and how long they stand."""

from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producer.errors import InvalidOptions
from producer.job import invalid_options

# Frames of the cinema: the Netflix guide counts its gap in frames of the video.
_FRAMES_PER_SECOND = 24

GUIDELINES: Final[dict[str, dict[str, Any]]] = {
    "netflix": {
        "max_line_width": 42,
        "max_line_count": 2,
        "max_cps": 17.0,
        "min_duration_s": 5 / 6,
        "max_duration_s": 7.0,
        "min_gap_s": 2 / _FRAMES_PER_SECOND,
    },
}
"""Options by the name of a published guideline.

`netflix`: Netflix's Timed Text Style Guide. From its general requirements: two lines, 5/6 s to 7 s a
subtitle, a gap of at least two frames. From its guide for English templates: 42 characters a line,
17 characters a second for adults. (Its later guide for English allows 20: ask for `max_cps`.)
"""


def guideline_options(name: str) -> dict[str, Any]:
    """Return the options of a guideline.

    Raises:
        InvalidOptions: there is no such guideline.
    """
    if name not in GUIDELINES:
        raise InvalidOptions("--subtitles", f"must be one of {', '.join(GUIDELINES)}", name)
    return GUIDELINES[name]


class FormatOptions(BaseModel):
    """How subtitles are broken and timed.

    `max_line_width`, `max_line_count`, `max_words_per_line` and `highlight_words` are
    openai-whisper's, and alone they do what they do there: with both a width and a line count,
    subtitles flow over segment borders; otherwise each segment starts a subtitle of its own.
    With a limit of time among them, or without word times, subtitles are laid out as
    `producer.formats.layout` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_line_width: int | None = Field(None, ge=1, description="Characters in a line.")
    max_line_count: int | None = Field(None, ge=1, description="Lines in a subtitle.")
    max_words_per_line: int | None = Field(
        None, ge=1, description="Words in a subtitle; without effect if width and count are set."
    )
    highlight_words: bool = Field(
        False, description="Underline each word while it is spoken; karaoke in ass and lrc."
    )
    max_cps: float | None = Field(
        None, gt=0, le=1000, allow_inf_nan=False, description="Characters to read in a second."
    )
    min_duration_s: float | None = Field(
        None, ge=0, le=60, allow_inf_nan=False, description="Seconds a subtitle stands at least."
    )
    max_duration_s: float | None = Field(
        None, ge=0.1, le=3600, allow_inf_nan=False, description="Seconds it stands at most."
    )
    min_gap_s: float | None = Field(
        None, ge=0, le=10, allow_inf_nan=False, description="Seconds between two subtitles."
    )

    @model_validator(mode="after")
    def _shortest_below_longest(self) -> Self:
        if (self.min_duration_s or 0) > (self.max_duration_s or float("inf")):
            msg = "min_duration_s must be at most max_duration_s"
            raise ValueError(msg)
        return self

    @classmethod
    def parse(cls, guideline: str | None = None, **fields: object) -> Self:
        """Return validated options: those of a guideline, with what else is given in their place.

        Raises:
            InvalidOptions: no such guideline, a misspelt key or a value out of bounds.
        """
        if guideline is not None and guideline not in GUIDELINES:
            raise InvalidOptions(
                "--subtitles", f"must be one of {', '.join(GUIDELINES)}", guideline
            )
        given = {key: value for key, value in fields.items() if value is not None}
        try:
            return cls.model_validate({**GUIDELINES.get(guideline or "", {}), **given})
        except ValidationError as error:
            raise invalid_options("format", error) from error

    @property
    def has_times(self) -> bool:
        """Whether a limit of time is among them, which openai-whisper does not know."""
        limits = (self.max_cps, self.min_duration_s, self.max_duration_s, self.min_gap_s)
        return any(limit is not None for limit in limits)

    @property
    def has_lines(self) -> bool:
        """Whether lines or subtitles are bounded in length."""
        return bool(self.max_line_width or self.max_line_count or self.max_words_per_line)


DEFAULT_FORMAT_OPTIONS = FormatOptions()
