"""`status`: how the farm, or a batch, stands."""

from typing import Annotated

import typer

from producer.batches.watching import batch_status
from producer.cli.options import AsJson
from producer.cli.session import session_of
from producer.cli.status_lines import farm_lines, status_lines
from producer.console import emit, one_line
from producer.errors import Exit, InvalidOptions
from producer.fleet import farm_status

app = typer.Typer()

BatchOrFarm = Annotated[
    str | None, typer.Argument(help="Batch; the whole farm if not given.", show_default=False)
]


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
        farm = farm_status(session.connection, session.settings)
        emit(farm.model_dump_json() if as_json else "\n".join(map(one_line, farm_lines(farm))))
        return
    look = batch_status(session.connection, session.settings, batch, recount=recount)
    emit(look.model_dump_json() if as_json else "\n".join(map(one_line, status_lines(look))))
    if look.counts.failed or look.counts.lost:
        raise typer.Exit(Exit.SOME_FAILED)
