"""Recordings and options on a command line become jobs; each problem is reported on its own."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from producer.archive.hash_cache import hash_audio
from producer.cli.session import Session
from producer.errors import ScribefarmError
from producer.job import Job, Options, invalid_options
from producer.settings import Settings

Files = Annotated[list[Path], typer.Argument(help="Recordings.", show_default=False)]
Language = Annotated[
    str | None, typer.Option(help="Language code, like de; detected if not given.")
]
Task = Annotated[str | None, typer.Option(help="transcribe, or translate into English.")]
Prompt = Annotated[str | None, typer.Option(help="Names, spelling, style to expect.")]
Words = Annotated[bool, typer.Option("--words", help="Times of single words too.")]


def asked_options(
    settings: Settings,
    *,
    language: str | None = None,
    task: str | None = None,
    prompt: str | None = None,
    words: bool = False,
) -> Options:
    """Return the options of settings.toml with those of the command line on top.

    Raises:
        InvalidOptions: an option is out of bounds.
    """
    flags: dict[str, Any] = {"language": language, "task": task, "initial_prompt": prompt}
    given = {name: value for name, value in flags.items() if value is not None}
    if words:
        given["word_timestamps"] = True
    try:
        return Options.model_validate({**settings.options.model_dump(), **given})
    except ValidationError as error:
        raise invalid_options("options", error) from error


def jobs_of(session: Session, files: Iterable[Path], options: Options) -> Iterator[Job]:
    """Yield a job for each file that can be read; report the others."""
    for file in files:
        path = file.absolute()
        try:
            yield Job(source=str(path), options=options, audio_sha256=hash_audio(path))
        except ScribefarmError as error:
            session.problem(error)
        except ValidationError as error:
            session.problem(invalid_options("job", error), str(file))
