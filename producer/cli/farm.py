"""`events`: what happens to the jobs, and to the farm."""

import re
from typing import Annotated

import typer

from producer.cli.options import KindNames, kinds_of
from producer.cli.session import session_of
from producer.console import emit, report
from producer.errors import Exit, InvalidOptions
from producer.events import ALL_KINDS, last_event_id, read_events

app = typer.Typer()


@app.command()
def events(
    context: typer.Context,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with events as they come.")
    ] = False,
    after: Annotated[
        str | None,
        typer.Option(
            help="Id of the last event you know; 0 for all.",
            show_default="all, or the next with --follow",
        ),
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Only jobs first asked for there.")] = None,
    kind: KindNames = None,
    all_kinds: Annotated[
        bool, typer.Option("--all", help="All kinds: also what happens to workers and batches.")
    ] = False,
) -> None:
    """Print an event for each job that ended, as JSON lines.

    Fields: schema, id, at, kind, job_id, status (succeeded or failed), code, worker, batch.

    Examples:
      scribefarm events --follow | jq -r 'select(.status == "failed") | .job_id'
      scribefarm events --follow --kind batch_done --kind worker_lost
      scribefarm events --after 1763867000000-0
    """
    connection = session_of(context).connection
    start = after or (last_event_id(connection) if follow else "0-0")
    if not re.fullmatch(r"\d+(-\d+)?", start):
        raise InvalidOptions("--after", "must be an event id like 1763867000000-0", start)
    try:
        kinds = ALL_KINDS if all_kinds else kinds_of(kind)
        for event in read_events(connection, start, follow=follow, kinds=kinds, on_odd=report):
            if batch is None or event.batch == batch:
                emit(event.to_json())
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
