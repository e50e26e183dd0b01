"""`scribefarm config`: the effective settings and their origins."""

import json
from typing import Annotated

import typer

from producer.cli.session import session_of
from producer.console import emit, one_line

app = typer.Typer()


@app.command()
def config(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting, its value and where it came from; secrets are masked.

    Arguments win over the environment, that over settings.toml, and that over the defaults.

    Examples:
      scribefarm config
      SCRIBEFARM_QUEUE__MAX_QUEUED=5000 scribefarm config --json
    """
    settings = list(session_of(context).settings.effective())
    if as_json:
        shown = {
            setting.key: {"value": setting.shown(), "origin": setting.origin}
            for setting in settings
        }
        emit(json.dumps(shown, indent=2))
        return
    for setting in settings:
        line = f"{setting.key} = {json.dumps(setting.shown())}"
        emit(one_line(f"{line:<58}  {setting.origin}"))
