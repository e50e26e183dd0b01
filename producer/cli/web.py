"""`web`: the farm in a browser, and over HTTP."""

import ipaddress
import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from producer import log
from producer.cli.session import Session, session_of
from producer.console import note
from producer.errors import InvalidOptions, OutputFailed

app = typer.Typer()


@app.command()
def web(
    context: typer.Context,
    *,
    listen: Annotated[
        str | None,
        typer.Option(help="HOST:PORT to listen on; else web.listen.", show_default=False),
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
        import uvicorn  # noqa: PLC0415 - what only this command needs

        from producer.web.access import Access  # noqa: PLC0415
        from producer.web.app import create_app  # noqa: PLC0415
    except ImportError as error:
        raise InvalidOptions("web", "needs: pip install 'scribefarm[web]'", error.name) from error
    address, port = _listen(listen or session.settings.web.listen)
    token = _token(token_file or session.settings.web.token_file)
    if token is None and not _is_loopback(address):
        raise InvalidOptions("--listen", "needs --token-file beyond this machine", address)
    names = [*session.settings.web.hosts, *(host or []), *_own_names(address)]
    made = create_app(
        session.connection,
        session.settings,
        access=Access.of(token, names),
        allow_actions=allow_actions or session.settings.web.allow_actions,
    )
    log.configure(session.settings.log)
    bound = _bind(address, port)
    config = uvicorn.Config(made, log_level="warning", access_log=False, server_header=False)
    _serve(uvicorn.Server(config), bound, session)


def _serve(server: Any, bound: socket.socket, _session: Session) -> None:
    address, port = bound.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    note(f"the farm is at http://{shown}:{port}/; Ctrl-C ends it")
    server.run(sockets=[bound])


def _listen(given: str) -> tuple[str, int]:
    """Return address and port of `HOST:PORT` or `[HOST]:PORT`."""
    address, mark, port = given.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not mark or not address or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004
        raise InvalidOptions("--listen", "must be HOST:PORT, such as 127.0.0.1:8723", given)
    return address, int(port)


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


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _own_names(address: str) -> list[str]:
    """Return the names of this machine, and the one that it is to listen on; none on loopback."""
    if _is_loopback(address):
        return []
    name = socket.gethostname()
    return [address, name, f"{name.partition('.')[0]}.local"]


def _bind(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise OutputFailed(
            "--listen", f"must be free to listen on: {error.strerror}", f"{address}:{port}"
        ) from error
    return bound
