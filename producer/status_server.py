"""A small HTTP server for monitors: a few pages by GET, in threads that nobody has to wait for."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from producer.addresses import Address
from producer.errors import InvalidOptions

# A monitor that sends half a request holds a thread for so long, and there are so many threads.
_TIMEOUT_S, _MAX_REQUESTS = 10.0, 16
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Answer(NamedTuple):
    """What a page says."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


class StatusServer:
    """Serves pages at an address until it is closed; a thread of its own does.

    Args:
        address: Where to listen.
        pages: What answers, by path.

    Raises:
        InvalidOptions: nothing can listen there.
    """

    def __init__(self, address: Address, pages: Mapping[str, Page]) -> None:
        handler = type("Handler", (_Handler,), {"pages": dict(pages), "is_local": address.is_local})
        family = _family(address)
        server = type("Server", (_Server,), {"address_family": family})
        try:
            self._server = server((address.host, address.port), handler)
        except OSError as error:
            raise InvalidOptions(
                "listen",
                "must be a free address of this machine",
                f"{address}: {error.strerror or error}",
            ) from error
        self.address = Address(address.host, int(self._server.server_address[1]))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="status",
            daemon=True,
        )
        self._thread.start()

    def join(self) -> None:
        """Wait until it is closed."""
        self._thread.join()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _family(address: Address) -> socket.AddressFamily:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise InvalidOptions(
            "listen", "must be an address of this machine", str(address)
        ) from error
    return found[0][0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: object) -> None:
        self._free = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(*arguments)  # type: ignore[arg-type]

    def process_request(self, request: object, client_address: object) -> None:
        """Answer in a thread; who comes while all are at work is hung up on."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answer one request."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: monitors hang up as they like."""


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, Page] = {}
    is_local = True
    timeout = _TIMEOUT_S
    server_version, sys_version = "scribefarm", ""

    def do_GET(self) -> None:
        """Answer with the page, or with 404; a page that fails is 500 and harms nobody else."""
        page = self.pages.get(self.path.partition("?")[0])
        if not self._is_meant():
            answer = Answer(HTTPStatus.FORBIDDEN, b"this address is for this machine\n")
        elif page is None:
            answer = Answer(HTTPStatus.NOT_FOUND, ("\n".join([*self.pages, ""])).encode())
        else:
            try:
                answer = page()
            except Exception:  # noqa: BLE001 a monitor's page ends no worker
                answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed\n")
        self._send(answer)

    def _is_meant(self) -> bool:
        """Return whether the request names this machine: no web page elsewhere reads what is local."""
        named = self.headers.get("Host", "localhost").rpartition(":")[0].strip("[]")
        return not self.is_local or (named or self.headers.get("Host", "")) in _LOCAL_HOSTS

    def _send(self, answer: Answer) -> None:
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class's name
        """Write no line for each scrape."""


@contextlib.contextmanager
def serving(address: Address, pages: Mapping[str, Page]) -> Iterator[StatusServer]:
    """Serve pages within the block."""
    server = StatusServer(address, pages)
    try:
        yield server
    finally:
        server.close()
