"""Recordings and options on a command line become jobs; each problem is reported on its own."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from producer.archive.hash_cache import hash_audio
from producer.cli.session import Session
from producer.errors import InvalidOptions, ScribefarmError
from producer.job import Job, Options, invalid_options
from producer.languages import parse_language
from producer.model_names import knows_english_alone
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
        InvalidOptions: an option is out of bounds, there is no such language, or the model in the
            settings knows no other than English.
    """
    flags: dict[str, Any] = {"language": language, "task": task, "initial_prompt": prompt}
    given = {name: value for name, value in flags.items() if value is not None}
    if words:
        given["word_timestamps"] = True
    try:
        options = Options.model_validate({**settings.options.model_dump(), **given})
    except ValidationError as error:
        raise invalid_options("options", error) from error
    _check_language(options, settings.model.name)
    return options


def _check_language(options: Options, model: str) -> None:
    """Refuse what no worker with the model can do, before one is started or waited for."""
    code = None if options.language is None else parse_language(options.language)
    if not knows_english_alone(model):
        return
    advice = "knows English alone; name another model: model.name"
    if code not in {None, "en"}:
        raise InvalidOptions("language", f"the model {model} {advice}", options.language)
    if options.task == "translate":
        raise InvalidOptions("task", f"the model {model} {advice}", options.task)


def jobs_of(session: Session, files: Iterable[Path], options: Options) -> Iterator[Job]:
    """Yield a job for each file that can be read; report the others."""
    for file in files:
        path = file.absolute()
        try:
            yield Job(
                source=str(path), options=options, audio_sha256=hash_audio(path, "transcribe")
            )
        except ScribefarmError as error:
            session.problem(error)
        except ValidationError as error:
            session.problem(invalid_options("job", error), str(file))
