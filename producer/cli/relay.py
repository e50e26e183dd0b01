"""`relay`: events go to a webhook."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from producer import log
from producer.cli.options import KindNames, kinds_of
from producer.cli.session import session_of
from producer.console import note
from producer.errors import Exit, InvalidOptions
from producer.settings import LogSettings
from producer.webhooks import Endpoint, Relay

app = typer.Typer()

SECRET_VARIABLE = "WEBHOOK_SECRET"  # noqa: S105 - a variable's name

# The first delivery is said at once, then how far they are.
_RELAY_NOTES_EVERY_S = 60.0


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
    kind: KindNames = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="The first time, begin with the oldest event.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when all events so far are delivered.")
    ] = False,
) -> None:
    """Post each event to a webhook, signed, in order, at least once, until it is taken.

    Where it stopped it goes on when it is started again, also with other kinds. The signature is that of
    standardwebhooks.com. Make a secret: echo whsec_$(openssl rand -base64 32)

    Examples:
      WEBHOOK_SECRET=whsec_... scribefarm relay --url https://example.org/hook
      scribefarm relay --url https://example.org/hook --secret-file /etc/scribefarm.secret
      scribefarm relay --url https://example.org/hook --kind batch_done --kind worker_lost
    """
    log.configure(LogSettings(level="warning", format="console"))
    secret = secret_file.read_text() if secret_file else os.environ.get(SECRET_VARIABLE)
    if not secret:
        raise InvalidOptions("relay", f"needs --secret-file or {SECRET_VARIABLE}")
    endpoint = Endpoint(url, SecretStr(secret))
    connection, kinds = session_of(context).connection, kinds_of(kind)
    running = Relay(connection, endpoint, from_start=from_start, kinds=kinds)
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
