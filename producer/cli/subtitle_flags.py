"""What a command line asks of subtitles: their limits, one by one or those of a guideline."""

import typer
from pydantic import ValidationError

from producer.cli.flags import Flags, Given, optional
from producer.formats import GUIDELINES, FormatOptions, guideline_options

_PANEL = "Subtitles"
_FLAGS = Flags(
    FormatOptions,
    panel=_PANEL,
    names={
        "min_duration_s": ("--min-duration",),
        "max_duration_s": ("--max-duration",),
        "min_gap_s": ("--min-gap",),
    },
)
SUBTITLE_FLAGS = (
    *_FLAGS.parameters(),
    optional(
        "subtitles",
        str,
        typer.Option(
            "--subtitles",
            help="Limits of a guideline; other flags win.",
            metavar="|".join(GUIDELINES),
            rich_help_panel=_PANEL,
        ),
    ),
)


def asked_subtitles(given: Given) -> FormatOptions:
    """Return the options of a guideline, if one is named, with the other flags on top.

    Raises:
        InvalidOptions: no such guideline, or a value is out of bounds.
    """
    guideline = guideline_options(str(given["subtitles"])) if "subtitles" in given else {}
    try:
        return FormatOptions.model_validate({**guideline, **_FLAGS.values(given)})
    except ValidationError as error:
        raise _FLAGS.refusal(error, given) from error
