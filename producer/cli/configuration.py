"""`scribefarm config`: what is in effect, and who said so."""

import json
from typing import Annotated

import typer

from producer.cli.console import emit, session_of

app = typer.Typer()


@app.command()
def config(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting, its value and where it came from; secrets are masked.

    Examples:
      scribefarm config
      SCRIBEFARM_QUEUE__MAX_QUEUED=5000 scribefarm config --json
    """
    knobs = list(session_of(context).settings.knobs())
    if as_json:
        shown = {knob.key: {"value": knob.shown(), "origin": knob.origin} for knob in knobs}
        emit(json.dumps(shown, indent=2))
        return
    for knob in knobs:
        setting = f"{knob.key} = {json.dumps(knob.shown())}"
        emit(f"{setting:<58}  {knob.origin}")
