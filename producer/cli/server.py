"""`scribefarm server`: look after the embedded server."""

import json
from typing import Annotated

import typer

from producer import embedded
from producer.cli.session import Session, session_of
from producer.console import emit, note, one_line
from producer.errors import Exit
from producer.masking import mask_url

app = typer.Typer(no_args_is_help=True, help="Look after the embedded server.")


@app.command()
def status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which server is used, whether it answers and where it keeps its data.

    Exit code 3 means that it does not run; the next command that needs it starts it.

    Example:
      scribefarm server status --json
    """
    session = session_of(context)
    found = _found(session)
    if as_json:
        emit(json.dumps(found))
    else:
        emit(
            "\n".join(
                one_line(f"{key}: {value}") for key, value in found.items() if value is not None
            )
        )
    if not found["running"]:
        raise typer.Exit(Exit.NOBODY_THERE)


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the embedded server; its jobs and results stay on disk.

    The next command that needs it starts it again.

    Example:
      scribefarm server stop
    """
    settings = session_of(context).settings
    if settings.redis.url:
        note("redis.url is set: that server is not ours to stop")
        raise typer.Exit(Exit.USAGE)
    stopped = embedded.stop(settings)
    note("stopped" if stopped else "was not running")


def _found(session: Session) -> dict[str, object]:
    url = session.settings.redis.url
    if url:
        session.connection.ping()
        return {"server": mask_url(url.get_secret_value()), "running": True}
    found = embedded.status(session.settings)
    return {
        "server": f"unix://{found.socket}",
        "running": found.running,
        "pid": found.pid if found.running else None,
        "data": str(found.data_dir),
    }
