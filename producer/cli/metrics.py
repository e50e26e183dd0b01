"""`metrics`: the farm for Prometheus."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

import typer

from producer import log
from producer.addresses import Address, parse_address
from producer.cli.session import session_of
from producer.console import emit, note
from producer.errors import Exit, InvalidSettings, ServerUnreachable
from producer.installation import install_hint
from producer.settings import LogSettings
from producer.status_server import Answer, serving

if TYPE_CHECKING:
    from producer.metrics.collector import FarmCollector

app = typer.Typer()

DEFAULT_LISTEN = "127.0.0.1:9740"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@app.command()
def metrics(
    context: typer.Context,
    *,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT", help="Where Prometheus scrapes; a port alone is this machine's."
        ),
    ] = DEFAULT_LISTEN,
    once: Annotated[
        bool, typer.Option("--once", help="Print the metrics and end; for a textfile collector.")
    ] = False,
) -> None:
    """Serve the farm's metrics for Prometheus, until stopped: /metrics, /healthz, /readyz.

    One is enough for a farm: it asks the server, and workers need no ports. A scrape costs the same
    for a million jobs as for ten. It has no password: who reaches the address reads names of
    workers, models and queues, but no name of a file.

    Exit codes: 0 stopped, 2 wrong address or settings, 3 with --once: no server.

    Examples:
      scribefarm metrics
      scribefarm metrics --listen 10.0.0.5:9740
      scribefarm metrics --once > /var/lib/node_exporter/scribefarm.prom
    """
    address = parse_address(listen, "--listen")
    try:
        from producer.metrics.collector import FarmCollector  # noqa: PLC0415 an optional extra
    except ModuleNotFoundError as error:
        needed = f"must be installed; {install_hint('metrics')}"
        raise InvalidSettings("metrics: prometheus-client", needed, error.name) from error
    collector = FarmCollector(session_of(context).settings)
    page = collector.page()
    if once and not collector.is_up:
        raise ServerUnreachable("metrics", "a Redis server must answer", collector.last_error)
    if once:
        emit(page.decode())
        return
    log.configure(LogSettings(level="warning", format="console"))
    _serve(address, collector)


def _serve(address: Address, collector: "FarmCollector") -> None:
    def page() -> Answer:
        return Answer(HTTPStatus.OK, collector.page(), CONTENT_TYPE)

    def alive() -> Answer:
        return Answer(HTTPStatus.OK, b"ok\n")

    def ready() -> Answer:
        collector.page()
        if collector.is_up:
            return Answer(HTTPStatus.OK, b"ok\n")
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{collector.last_error}\n".encode())

    with serving(address, {"/metrics": page, "/healthz": alive, "/readyz": ready}) as server:
        note(f"metrics: http://{server.address}/metrics")
        if not address.is_local:
            note("whoever reaches this address can read them")
        if not collector.is_up:
            note(f"no server yet: {collector.last_error}")
        try:
            server.join()
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
