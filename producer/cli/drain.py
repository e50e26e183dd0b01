"""`drain`: one worker is to end."""

from typing import Annotated

import typer

from producer.cli.session import session_of
from producer.console import note
from producer.draining import drain as drain_worker

app = typer.Typer()


@app.command()
def drain(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(help="Its name as in `status`, or the beginning of it.")],
) -> None:
    """Ask a worker to finish what it can, hand back the rest, and end.

    A service manager that keeps workers alive starts it again.

    Exit codes: 0 asked, 2 no worker has that name, or several begin so, 3 no server or no worker.

    Example:
      scribefarm drain mini-3
    """
    session = session_of(context)
    name = drain_worker(session.connection, session.settings, worker)
    note(f"{name} was asked to drain")
