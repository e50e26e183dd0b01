"""`scribefarm models`: the models that can be asked for by a short name, and who has them."""

import json
from typing import Annotated

import typer

from producer.cli.options import AsJson
from producer.cli.session import session_of
from producer.console import emit, format_bytes, note, one_line
from producer.errors import InvalidOptions
from producer.model_names import KNOWN_MODELS, KnownModel, short_names
from producer.model_users import model_users

app = typer.Typer()

_ON_WORKERS = "scribefarm-worker models"


@app.command()
def models(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[list]", help="What `models` does anyway.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the models that `--model` knows by name, and which workers have them.

    Any other model of these families is named by its hub id or folder. What a machine has on its disk says
    `scribefarm-worker models list` there; `models fetch` and `models remove` are the worker's too.

    Examples:
      scribefarm models
      scribefarm models --json
    """
    asked = " ".join(words or ())
    if asked not in {"", "list"}:
        raise InvalidOptions("models", f"must be done on a worker: {_ON_WORKERS} {asked}", asked)
    users = model_users(session_of(context).settings)
    known = list(dict.fromkeys(KNOWN_MODELS.values()))
    if as_json:
        emit(json.dumps([_record(model, users) for model in known]))
        return
    for model in known:
        emit(_line(model, users))
    for name in sorted(users.keys() - {model.name for model in known}):
        emit(one_line(f"{name}: used by {', '.join(users[name])}"))
    note(f"what is on a worker's disk, and fetching it: {_ON_WORKERS} list")


def _record(model: KnownModel, users: dict[str, list[str]]) -> dict[str, object]:
    return {
        **model._asdict(),
        "short_names": short_names(model.name),
        "num_bytes": model.num_bytes,
        "used_by": users.get(model.name, []),
    }


def _line(model: KnownModel, users: dict[str, list[str]]) -> str:
    """Return a model in one line: names, size, languages, licence, who uses it."""
    languages = "English" if model.num_languages == 1 else f"{model.num_languages} languages"
    names = ", ".join(short_names(model.name))
    size = f"about {format_bytes(model.num_bytes)}"
    used = f"  used by {', '.join(users[model.name])}" if model.name in users else ""
    by = f", {model.attribution}" if model.attribution else ""
    return one_line(f"{names:<24} {size:>14}  {languages:<13}  {model.licence}{by}{used}")
