"""`watch`: how a batch is getting on, until it is done."""

from typing import Annotated

import typer

from producer.cli.options import Batch, batch_of
from producer.cli.session import session_of
from producer.cli.watch_view import show_batch
from producer.console import note
from producer.errors import Exit

app = typer.Typer()


@app.command()
def watch(
    context: typer.Context,
    batch: Batch = None,
    *,
    every: Annotated[
        float | None,
        typer.Option(min=0.2, help="Seconds between looks.", show_default="1, or 10 as lines"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line a look.")] = False,
) -> None:
    """Show how a batch gets on, until it is done: files, speed, time left, workers.

    On a terminal a live view, else a plain line a look. Ctrl-C leaves the farm working.
    Exit code 0: all succeeded. 1: some failed.

    Examples:
      scribefarm watch
      scribefarm watch archive-20251123-2200 --every 60 >> night.log
    """
    session = session_of(context)
    name = batch_of(session, batch)
    try:
        last = show_batch(session, name, every_s=every, as_json=as_json)
    except KeyboardInterrupt:
        note(f"the farm goes on; come back with:  scribefarm watch {name}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if last.counts.succeeded < last.counts.total:
        raise typer.Exit(Exit.SOME_FAILED)
