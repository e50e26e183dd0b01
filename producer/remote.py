"""Ask web servers for recordings, without being led into networks that are nobody's business.

The address of each hop is resolved once, checked, and connected to: a name that resolves to
something else a moment later (DNS rebinding) changes nothing. Redirects are counted and each target
is checked alike. No wait is without bound, also where a server sends a byte now and then.
"""

import contextlib
import errno
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from urllib.parse import unquote, urljoin

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url, make_headers, parse_url

from producer.errors import (
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
)
from producer.masking import mask_url
from producer.remote_answer import Answer
from producer.remote_hosts import Access, resolve
from producer.source import SourceVersion

MAX_REDIRECTS = 5

_OK, _PARTIAL = 200, 206
_MOVED = frozenset({301, 302, 303, 307, 308})
_ABSENT = frozenset({404, 410})
# 416: what was to be resumed has another size now; asked anew, it is whole.
_PASSING = frozenset({408, 409, 416, 423, 425, 429})
_FIRST_SERVER_ERROR = 500


def ask(
    url: str,
    access: Access,
    *,
    name: str = "",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Answer:
    """Ask a server, follow its redirects, and return the answer with its body unread.

    Args:
        url: http:// or https://; a user and password in it go to that server alone.
        access: Which servers may be asked.
        name: The source as messages name it; the URL without its secrets if not given.
        method: Of the request.
        headers: Of the request.
        beat: Called after each step that a server may delay.

    Raises:
        SourceNotFound: no such host, path, or an address that is none.
        SourceForbidden: a private address, a redirect that leads away from https, or refused.
        SourceUnreachable: no answer in time, or one that says "later".
    """
    name, current, first = name or mask_url(url), url, None
    for hop in range(MAX_REDIRECTS + 1):
        target = _parse(current, name)
        if first is None:
            first = target
        elif first.scheme == "https" and target.scheme != "https":
            raise SourceForbidden(name, "a redirect must stay with https", mask_url(current))
        trusted = access.trusts_first and hop == 0
        with _foreign_errors(name):
            answer = _ask_once(
                target, access, name, method, _sent(first, target, headers), trusted=trusted
            )
        try:
            beat()
        except BaseException:
            answer.close()
            raise
        if answer.status not in _MOVED:
            return _checked(answer)
        answer.close()
        current = _joined(current, answer.headers.get("location", ""), name)
    raise SourceForbidden(
        name, f"at most {MAX_REDIRECTS} redirects are followed", mask_url(current)
    )


def ask_version(url: str, access: Access, name: str = "") -> SourceVersion:
    """Return what the server says of a source, without reading it.

    A server that takes no HEAD, or whose signature is for GET alone, is asked for one byte.

    Raises:
        ScribefarmError: as `ask` and `Answer.check_is_audio` raise.
    """
    headers = {"accept-encoding": "identity"}
    try:
        answer = ask(url, access, name=name, method="HEAD", headers=headers)
    except (SourceForbidden, SourceNotFound, SourceUnreachable) as error:
        if not isinstance(error.value, int):
            raise
        answer = ask(url, access, name=name, headers=headers | {"range": "bytes=0-0"})
    with answer:
        answer.check_is_audio()
        return answer.version


def _joined(url: str, location: str, name: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise SourceNotFound(name, "a redirect must name an address") from None


def _parse(url: str, name: str) -> Url:
    try:
        target = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        raise SourceNotFound(name, "must be an address with a host") from None
    if target.scheme not in {"http", "https"} or not target.host:
        limit = "must be an http:// or https:// address with a host"
        raise SourceNotFound(name, limit, mask_url(url))
    return target


def _sent(first: Url, target: Url, headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers for one hop; the password is for the first host alone."""
    sent = {
        "host": target.netloc or "",
        "user-agent": "scribefarm",
        "accept-encoding": "identity",
        **(headers or {}),
    }
    is_first = (first.scheme, first.netloc) == (target.scheme, target.netloc)
    if first.auth and is_first:
        sent |= make_headers(basic_auth=unquote(first.auth))
    return sent


def _ask_once(
    target: Url,
    access: Access,
    name: str,
    method: str,
    headers: Mapping[str, str],
    *,
    trusted: bool,
) -> Answer:
    port = target.port or (443 if target.scheme == "https" else 80)
    host = (target.host or "").strip("[]")
    addresses = resolve(host, port, access, name, trusted=trusted)
    connection = _connect(target, host, port, addresses, access)
    # A server that sends its headers a byte at a time never lets a read time out.
    response: urllib3.BaseHTTPResponse | None = None
    try:
        with _Watchdog(connection, access.timeout_s):
            connection.request(method, target.request_uri, headers=headers, preload_content=False)
            response = connection.getresponse()
    except BaseException:
        if response is not None:
            response.close()
        raise
    lowered = {key.lower(): value for key, value in response.headers.items()}
    return Answer(name, response.status, lowered, connection, response)


def _connect(
    target: Url, host: str, port: int, addresses: list[str], access: Access
) -> HTTPConnection:
    """Connect to the first address that takes us; the certificate must be the host's."""
    last_error: Exception | None = None
    for address in addresses:
        connection: HTTPConnection
        if target.scheme == "https":
            connection = HTTPSConnection(
                address,
                port,
                timeout=access.timeout_s,
                server_hostname=host,
                assert_hostname=host,
                ssl_context=_tls(),
            )
        else:
            connection = HTTPConnection(address, port, timeout=access.timeout_s)
        try:
            with _Watchdog(connection, access.timeout_s):
                connection.connect()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            last_error = error
        else:
            return connection
    raise last_error or OSError("no address")


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Watchdog:
    """Ends whatever waits for a connection's bytes when its time is out, and closes it on errors."""

    def __init__(self, connection: HTTPConnection, timeout_s: float) -> None:
        self._connection, self._has_bitten = connection, False
        self._timer = threading.Timer(timeout_s, self._bite)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if error is not None or self._has_bitten:
            self._connection.close()
        if self._has_bitten and (error is None or issubclass(error, Exception)):
            raise TimeoutError(errno.ETIMEDOUT, "no whole answer in time") from None

    def _bite(self) -> None:
        self._has_bitten = True
        if self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)


def _checked(answer: Answer) -> Answer:
    if answer.status in {_OK, _PARTIAL}:
        return answer
    answer.close()
    raise _refusal(answer.name, answer.status)


def _refusal(name: str, status: int) -> ScribefarmError:
    error: type[ScribefarmError] = SourceForbidden
    if status in _ABSENT:
        error = SourceNotFound
    elif status in _PASSING or status >= _FIRST_SERVER_ERROR:
        error = SourceUnreachable
    return error(name, "the server must give it, with status 200", status)


@contextlib.contextmanager
def _foreign_errors(name: str) -> Iterator[None]:
    """Turn what urllib3, TLS and sockets raise into our errors, without their text: it has the URL."""
    try:
        yield
    except ScribefarmError:
        raise
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        found = _reason(error)
        raise SourceUnreachable(name, "the server must answer", found) from None


def _reason(error: Exception) -> str:
    for each in (error, error.__cause__):
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
    return type(error).__name__
