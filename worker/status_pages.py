"""A worker's own pages for monitors: /metrics, /healthz, /readyz. None of them can end the worker."""

import contextlib
import time
from collections.abc import Iterator
from http import HTTPStatus
from importlib.util import find_spec

import structlog

from producer.addresses import parse_address
from producer.errors import InvalidOptions, InvalidSettings
from producer.installation import install_hint
from producer.status_server import Answer, StatusServer
from producer.worker_records import WorkerRecord, state_of
from worker.farm.farm_worker import FarmWorker

_log = structlog.get_logger()


def check_packages(listen: str | None) -> None:
    """Accept an address if what writes metrics is installed; before a model is loaded.

    Raises:
        InvalidSettings: it is not.
    """
    if listen is not None and find_spec("prometheus_client") is None:
        needed = f"needs prometheus-client; {install_hint('metrics')}"
        raise InvalidSettings("worker.metrics_listen", needed, listen)


@contextlib.contextmanager
def status_pages(worker: FarmWorker, listen: str | None) -> Iterator[StatusServer | None]:
    """Serve a worker's pages within the block; without an address nothing.

    An address that is taken, as by a worker that still drains, is logged: the work goes on without.
    """
    if listen is None:
        yield None
        return
    from producer.metrics.one_worker import worker_page  # noqa: PLC0415 an optional extra

    def metrics() -> Answer:
        return Answer(HTTPStatus.OK, worker_page(_record(worker)), "text/plain; version=0.0.4")

    def alive() -> Answer:
        health = worker.health
        if health.is_alive:
            return Answer(HTTPStatus.OK, b"ok\n")
        hangs = f"the loop hangs for {health.loop_age_s:.0f} s\n"
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, hangs.encode())

    def ready() -> Answer:
        reason = worker.health.why_not_ready
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return Answer(status, f"{reason or 'ok'}\n".encode())

    pages = {"/metrics": metrics, "/healthz": alive, "/readyz": ready}
    try:
        server = StatusServer(parse_address(listen, "worker.metrics_listen"), pages)
    except InvalidOptions as error:
        _log.warning("status_pages_unavailable", reason=str(error))
        yield None
        return
    _log.info("status_pages", address=str(server.address))
    try:
        yield server
    finally:
        server.close()


def _record(worker: FarmWorker) -> WorkerRecord:
    """Return what the worker said with its last heartbeat."""
    document = worker.facts.to_json().encode()
    record = WorkerRecord.read(worker.name, document, is_paused=worker.health.is_paused)
    age_s = time.monotonic() - worker.facts_at
    return record.model_copy(update={"state": state_of(record), "heartbeat_age_s": age_s})
