"""`web`: the farm in a browser, and over HTTP."""

import socket
from pathlib import Path
from typing import Annotated

import typer

from producer import log
from producer.addresses import Address, parse_address
from producer.cli.session import session_of
from producer.console import note
from producer.errors import Exit, InvalidOptions, InvalidSettings
from producer.installation import install_hint

app = typer.Typer()

_GRACE_S = 2


@app.command()
def web(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Where to listen; else web.listen.", show_default=False
        ),
    ] = None,
    allow_actions: Annotated[
        bool,
        typer.Option("--allow-actions", help="Let the page retry, cancel, pause, resume, drain."),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that is asked for.", exists=True, dir_okay=False),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="Another name under which this machine is asked; may be repeated."),
    ] = None,
) -> None:
    """Show the farm in a browser: progress, workers, errors, transcripts; live, read-only.

    It listens on this machine alone, unless it is told otherwise; then it needs a token. Make one:
    openssl rand -hex 24 > token

    Examples:
      scribefarm web
      scribefarm web --listen 0.0.0.0:8723 --token-file token --allow-actions
    """
    session = session_of(context)
    try:
        import uvicorn  # noqa: PLC0415 - an optional extra

        from producer.web.access import Access  # noqa: PLC0415
        from producer.web.app import create_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        needed = f"must be installed; {install_hint('web')}"
        raise InvalidSettings(f"web: {error.name}", needed) from error
    address = parse_address(listen or session.settings.web.listen, "--listen")
    token = _token(token_file or session.settings.web.token_file)
    if token is None and not address.is_local:
        raise InvalidOptions("--listen", "needs --token-file beyond this machine", address)
    names = [*session.settings.web.hosts, *(host or []), *_own_names(address)]
    made = create_app(
        session.connection,
        session.settings,
        access=Access.of(token, names),
        allow_actions=allow_actions or session.settings.web.allow_actions,
    )
    log.configure(session.settings.log)
    bound = _bind(address)
    config = uvicorn.Config(
        made,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Open pages would be waited for.
        timeout_graceful_shutdown=_GRACE_S,
    )
    note(f"the farm is at {_url(bound)}; Ctrl-C ends it")
    try:
        uvicorn.Server(config).run(sockets=[bound])
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _url(bound: socket.socket) -> str:
    address, port = bound.getsockname()[:2]
    return f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"


def _token(file: Path | None) -> str | None:
    from producer.web.access import MIN_TOKEN_CHARS  # noqa: PLC0415 - needs the extra

    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, ValueError) as error:
        raise InvalidOptions(
            "--token-file", f"must be a file with a token: {error}", file
        ) from error
    if len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable():
        must = f"must hold at least {MIN_TOKEN_CHARS} ASCII characters: openssl rand -hex 24 > FILE"
        raise InvalidOptions("--token-file", must, file)
    return token


def _own_names(address: Address) -> list[str]:
    """Return the names of this machine, and the one that it is to listen on; none on loopback."""
    if address.is_local:
        return []
    name = socket.gethostname()
    return [address.host, name, f"{name.partition('.')[0]}.local"]


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
        # Who asks before the app is ready waits for it.
        bound.listen()
    except OSError as error:
        bound.close()
        must = "must be a free address of this machine"
        raise InvalidOptions("--listen", must, f"{address}: {error.strerror or error}") from error
    return bound
