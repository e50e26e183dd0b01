"""`pause`, `resume`, `drain`, `events`, `relay`: the farm as a whole."""

import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from producer.cli.session import session_of
from producer.console import emit, note, report
from producer.draining import drain as drain_worker
from producer.errors import Exit, InvalidOptions
from producer.events import ALL_KINDS, ENDS, last_event_id, read_events
from producer.fleet import pause as pause_farm
from producer.fleet import resume as resume_farm
from producer.webhooks import Endpoint, Relay

app = typer.Typer()

SECRET_VARIABLE = "WEBHOOK_SECRET"  # noqa: S105 - a variable's name

# The first delivery is said at once, then how far they are.
_RELAY_NOTES_EVERY_S = 60.0

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


@app.command()
def relay(
    context: typer.Context,
    url: Annotated[str, typer.Option(help="Where to post events.", show_default=False)],
    *,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the secret, whsec_...; else ${SECRET_VARIABLE}.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="The first time, begin with the oldest event.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when all events so far are delivered.")
    ] = False,
) -> None:
    """Post each event to a webhook, signed, in order, at least once, until it is taken.

    Where it stopped it goes on when it is started again. The signature is that of
    standardwebhooks.com. Make a secret: echo whsec_$(openssl rand -base64 32)

    Examples:
      WEBHOOK_SECRET=whsec_... scribefarm relay --url https://example.org/hook
      scribefarm relay --url https://example.org/hook --secret-file /etc/scribefarm.secret
    """
    secret = secret_file.read_text() if secret_file else os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise InvalidOptions("relay", f"needs --secret-file or {SECRET_VARIABLE}")
    endpoint = Endpoint(url, SecretStr(secret))
    running = Relay(session_of(context).connection, endpoint, from_start=from_start)
    _relay(running, follow=not once)


def _relay(running: Relay, *, follow: bool) -> None:
    num_delivered = num_refused = 0
    told_at = -_RELAY_NOTES_EVERY_S
    try:
        for delivery in running.deliveries(follow=follow):
            if delivery.outcome == "delivered":
                num_delivered += 1
                if time.monotonic() >= told_at + _RELAY_NOTES_EVERY_S:
                    told_at = time.monotonic()
                    note(f"delivered {num_delivered}, the latest: event {delivery.event.id}")
                continue
            num_refused += 1
            note(f"refused with {delivery.status}: event {delivery.event.id}")
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    finally:
        note(f"{num_delivered} events delivered, {num_refused} refused")
    if num_refused:
        raise typer.Exit(Exit.SOME_FAILED)


def _seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)([smhd]?)", duration)
    if not match or not int(match[1]):
        raise InvalidOptions("--for", "must be like 90s, 30m or 8h", duration)
    return int(match[1]) * _UNITS_S[match[2]]
