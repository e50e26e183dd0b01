"""`pause`, `resume`: the farm as a whole, or one worker."""

import re
from typing import Annotated

import typer

from producer.cli.session import session_of
from producer.console import note
from producer.errors import InvalidOptions
from producer.fleet import pause as pause_farm
from producer.fleet import resume as resume_farm
from producer.pausing import pause_worker, resume_worker

app = typer.Typer()

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
# As long as a pause is kept.
_LONGEST_S = 365 * 86400

Worker = Annotated[
    str | None,
    typer.Argument(help="Its name or the beginning of it; else all.", show_default=False),
]


@app.command()
def pause(
    context: typer.Context,
    worker: Worker = None,
    *,
    duration: Annotated[
        str | None, typer.Option("--for", help="Like 90s, 30m or 8h; else until resume.")
    ] = None,
) -> None:
    """Let no worker, or not this one, start another file; what runs is finished.

    Submissions are taken all the same; they wait. A worker's pause outlives its restart: it is kept
    under its name without the eight characters of each start.

    Exit codes: 0 paused, 2 no worker has that name, or several begin so, 3 no server or no worker.

    Examples:
      scribefarm pause
      scribefarm pause --for 8h
      scribefarm pause mini-3
    """
    session, duration_s = session_of(context), None if duration is None else _seconds(duration)
    until = f"for {duration}" if duration else "until: scribefarm resume"
    if worker is None:
        pause_farm(session.connection, duration_s)
        note(f"paused {until}")
        return
    name = pause_worker(session.connection, session.settings, worker, duration_s)
    note(f"{name} is paused {until}" + ("" if duration else f" {name}"))


@app.command()
def resume(context: typer.Context, worker: Worker = None) -> None:
    """Let the workers, or this one, start files again.

    They notice it within seconds. While the farm is paused, a worker that is resumed waits with it.

    Examples:
      scribefarm resume
      scribefarm resume mini-3
    """
    session = session_of(context)
    if worker is None:
        was_paused = resume_farm(session.connection)
        note("the farm goes on" if was_paused else "the farm was not paused")
        return
    name, was_paused = resume_worker(session.connection, session.settings, worker)
    note(f"{name} goes on" if was_paused else f"{name} was not paused")


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", duration)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise InvalidOptions("--for", "must be like 90s, 30m or 8h, and a year at most", duration)
    return seconds
