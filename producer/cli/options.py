"""Arguments and options that several commands share, and what they are read as."""

from typing import Annotated

import typer

from producer.batches.views import latest_batches
from producer.cli.session import Session
from producer.errors import InvalidOptions, JobNotFound
from producer.events import ALL_KINDS, ENDS, Kind
from producer.formats import FORMATS

Batch = Annotated[
    str | None, typer.Argument(help="Batch; the latest if not given.", show_default=False)
]
KindNames = Annotated[
    list[str] | None,
    typer.Option(
        "--kind", help="Events of this kind; may be given again.", show_default="job_ended"
    ),
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


def kinds_of(names: list[str] | None) -> frozenset[Kind]:
    """Return the kinds of events that were asked for; without any the ends of jobs.

    Raises:
        InvalidOptions: there is no such kind.
    """
    for name in names or ():
        if name not in ALL_KINDS:
            raise InvalidOptions("--kind", f"must be one of {', '.join(sorted(ALL_KINDS))}", name)
    return frozenset(kind for kind in ALL_KINDS if kind in (names or ())) or ENDS


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
