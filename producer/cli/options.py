"""Arguments and options that several commands share, and what they are read as."""

from typing import Annotated

import typer

from producer.batches.views import latest_batches
from producer.cli.session import Session
from producer.errors import InvalidOptions, JobNotFound
from producer.formats import FORMATS

Batch = Annotated[
    str | None, typer.Argument(help="Batch; the latest if not given.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def batch_of(session: Session, given: str | None) -> str:
    """Return the batch that a command is about.

    Raises:
        JobNotFound: none was ever submitted.
    """
    if given is not None:
        return given
    if latest := latest_batches(session.connection, 1):
        return latest[0]
    raise JobNotFound("batch", "nothing was submitted yet; start with: scribefarm submit FOLDER")


# What openai-whisper writes for `all`, its default.
_ALL = ("txt", "vtt", "srt", "tsv", "json")


def format_names(given: str) -> tuple[str, ...]:
    """Return the names in a list of output formats with commas between, each once.

    `all` stands for the five that openai-whisper has.

    Raises:
        InvalidOptions: there is no such format.
    """
    names = (name.strip() for name in given.split(","))
    spelled = (each for name in names for each in (_ALL if name == "all" else (name,)))
    return tuple(dict.fromkeys(known_format(name) for name in spelled))


def known_format(name: str) -> str:
    """Return the name of an output format.

    Raises:
        InvalidOptions: there is no such format.
    """
    if name not in FORMATS:
        raise InvalidOptions("--format", f"must be one of {', '.join(FORMATS)}", name)
    return name
