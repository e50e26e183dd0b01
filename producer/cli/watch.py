"""`watch` and `status`: how a batch, or the farm, is getting on."""

from typing import Annotated

import typer

from producer.batches.watching import batch_status
from producer.cli.options import AsJson, Batch, batch_of
from producer.cli.session import session_of
from producer.cli.watch_view import show_batch, show_farm, status_lines
from producer.console import emit, note, one_line
from producer.errors import Exit, InvalidOptions

app = typer.Typer()

BatchOrFarm = Annotated[
    str | None, typer.Argument(help="Batch; the whole farm if not given.", show_default=False)
]


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


@app.command()
def status(
    context: typer.Context,
    batch: BatchOrFarm = None,
    *,
    recount: Annotated[
        bool,
        typer.Option("--recount", help="Count the batch anew, after another program deleted jobs."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how the farm stands on one screen: workers, queues, latest batches; or one batch.

    `watch` does so again and again.

    Exit code 0: no file of the batch has failed. 1: some have.

    Examples:
      scribefarm status
      scribefarm status archive --json
    """
    session = session_of(context)
    if batch is None:
        if recount:
            raise InvalidOptions("--recount", "needs the batch to count")
        show_farm(session, as_json=as_json)
        return
    look = batch_status(session.connection, session.settings, batch, recount=recount)
    emit(look.model_dump_json() if as_json else "\n".join(map(one_line, status_lines(look))))
    if look.counts.failed or look.counts.lost:
        raise typer.Exit(Exit.SOME_FAILED)
