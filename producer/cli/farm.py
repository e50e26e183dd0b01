"""`pause`, `resume`, `events`: the farm as a whole."""

import re
from typing import Annotated

import typer

from producer.cli.session import session_of
from producer.console import emit, note, report
from producer.errors import Exit, InvalidOptions
from producer.events import ALL_KINDS, ENDS, last_event_id, read_events
from producer.fleet import pause as pause_farm
from producer.fleet import resume as resume_farm

app = typer.Typer()

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def pause(
    context: typer.Context,
    duration: Annotated[
        str | None, typer.Option("--for", help="Like 90s, 30m or 8h; else until resume.")
    ] = None,
) -> None:
    """Let no worker start another file; what runs is finished.

    Submissions are taken all the same; they wait.

    Examples:
      scribefarm pause
      scribefarm pause --for 8h
    """
    duration_s = None if duration is None else _seconds(duration)
    pause_farm(session_of(context).connection, duration_s)
    until = f"for {duration}" if duration else "until: scribefarm resume"
    note(f"paused {until}")


@app.command()
def resume(context: typer.Context) -> None:
    """Let workers start files again.

    They notice it within seconds.

    Example:
      scribefarm resume
    """
    was_paused = resume_farm(session_of(context).connection)
    note("the farm goes on" if was_paused else "the farm was not paused")


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
    all_kinds: Annotated[
        bool, typer.Option("--all", help="Also jobs that were taken over from lost workers.")
    ] = False,
) -> None:
    """Print an event for each job that ended, as JSON lines.

    Fields: schema, id, at, kind, job_id, status (succeeded or failed), code, worker, batch.

    Examples:
      scribefarm events --follow | jq -r 'select(.status == "failed") | .job_id'
      scribefarm events --after 1763867000000-0
    """
    connection = session_of(context).connection
    start = after or (last_event_id(connection) if follow else "0-0")
    if not re.fullmatch(r"\d+(-\d+)?", start):
        raise InvalidOptions("--after", "must be an event id like 1763867000000-0", start)
    try:
        kinds = ALL_KINDS if all_kinds else ENDS
        for event in read_events(connection, start, follow=follow, kinds=kinds, on_odd=report):
            if batch is None or event.batch == batch:
                emit(event.to_json())
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd]?)", duration)
    if not match or not int(match[1]):
        raise InvalidOptions("--for", "must be like 90s, 30m or 8h", duration)
    return int(match[1]) * _UNITS_S[match[2]]
