"""Who may ask the page for what: hosts, sites, the token, and what a browser may do with an answer.

On loopback anybody on the machine may look. Elsewhere a token is needed, as `Authorization: Bearer`
or as a cookie that the login page sets. Two attacks come from pages that a person has open beside
ours, and are refused everywhere: a name that was made to point to us (DNS rebinding) by the Host
header, requests of another site by Origin and Sec-Fetch-Site.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "scribefarm"
# A night and the morning after it.
COOKIE_LIFE_S = 24 * 3600
# Fewer could be guessed; `openssl rand -hex 16` has 32.
MIN_TOKEN_CHARS = 16

# Reachable without the token: the login page, and how it looks.
_LOGIN, _STATIC = "/login", "/static/"
# Of `producer.web.api`.
_PROGRAM_PATHS = ("/v1/", "/jobs", "/batches", "/events", "/openapi.json")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})

# A Host header: an address in brackets or a name, and a port.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::\d{1,5})?")

_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer" browsers would hide the origin of our own forms as well.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Access(NamedTuple):
    """Who is let in.

    Attributes:
        token: What must be shown; None lets everybody in who reaches us: on loopback alone.
        hosts: Names under which we may be asked, in lower case, beside addresses and `localhost`.
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, token: str | None, hosts: Iterable[str] = ()) -> "Access":
        """Return the access of a token and names."""
        return cls(token, frozenset(host.lower().rstrip(".") for host in hosts))

    def knows_host(self, header: str) -> bool:
        """Return whether a Host header is one of ours; a number is, for nobody can rebind it."""
        match = _HOST.fullmatch(header.lower())
        name = (match[1] or match[2]) if match else ""
        return name == "localhost" or name in self.hosts or _is_address(name)

    def is_token(self, given: str) -> bool:
        """Return whether somebody knows the token; takes as long for a near miss as for a far one."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def cookie(self) -> str:
        """Return a cookie that stands for the token for a while, without telling it."""
        expires = str(int(time.time()) + COOKIE_LIFE_S)
        nonce = secrets.token_urlsafe(12)
        return f"{expires}.{nonce}.{self._signature(expires, nonce)}"

    def is_cookie(self, given: str) -> bool:
        """Return whether a cookie is one of ours, and has not expired."""
        expires, _, rest = given.partition(".")
        nonce, _, signature = rest.partition(".")
        is_ours = hmac.compare_digest(signature.encode(), self._signature(expires, nonce).encode())
        return is_ours and expires.isdecimal() and int(expires) > time.time()

    def lets_in(self, headers: Headers, cookies: dict[str, str]) -> bool:
        """Return whether a request shows the token, if there is one."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self.is_cookie(cookies.get(COOKIE, ""))

    def _signature(self, expires: str, nonce: str) -> str:
        key = hashlib.sha256(f"scribefarm web cookie\0{self.token}".encode()).digest()
        return hmac.new(key, f"{expires}.{nonce}".encode(), hashlib.sha256).hexdigest()


class AccessMiddleware:
    """Refuses what may not be asked before anything else sees it; adds the headers of every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            # We have no websockets; the lifespan is the app's.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = refused(request, self._access)
        app = self._app if refusal is None else refusal
        # Files of ours are asked for again, and are the same; all else is the farm's and changes.
        caching = "no-cache" if scope["path"].startswith(_STATIC) else "no-store"
        await app(scope, receive, _with_headers(send, caching))


def refused(request: Request, access: Access) -> Response | None:
    """Return the answer to a request that may not be made; None if it may."""
    headers = request.headers
    if len(headers.getlist("host")) != 1 or not access.knows_host(headers["host"]):
        return _problem(
            request, HTTPStatus.MISDIRECTED_REQUEST, "This host name is not known here."
        )
    if not is_of_own_site(request):
        return _problem(request, HTTPStatus.FORBIDDEN, "Another site asked for this.")
    path = request.scope["path"]
    is_open = path == _LOGIN or path.startswith(_STATIC)
    if is_open or access.lets_in(headers, request.cookies):
        return None
    if request.method == "GET" and "text/html" in headers.get("accept", ""):
        query = request.scope["query_string"].decode("latin-1")
        target = quote(path + (f"?{query}" if query else ""), safe="")
        return RedirectResponse(f"{_LOGIN}?next={target}", HTTPStatus.SEE_OTHER)
    answer = _problem(request, HTTPStatus.UNAUTHORIZED, "The token is needed.")
    answer.headers["WWW-Authenticate"] = 'Bearer realm="scribefarm"'
    return answer


def is_of_own_site(request: Request) -> bool:
    """Return whether a request comes from our own pages, from a program, or is a link to a page.

    A browser says where a request comes from; programs say nothing, and no page can make them ask.
    """
    headers = request.headers
    site = headers.get("sec-fetch-site")
    is_safe = request.method in _SAFE_METHODS
    if site is not None and site not in _OWN_SITES:
        # A link on another site, as in a mail or a wiki, may open a page and nothing else.
        is_link = headers.get("sec-fetch-mode") == "navigate"
        return is_safe and is_link and headers.get("sec-fetch-dest", "document") == "document"
    origin = headers.get("origin")
    if origin is None or (is_safe and origin == "null"):
        return True
    return urlsplit(origin).netloc.lower() == headers["host"].lower()


def next_page(asked: str) -> str:
    """Return where to go after the login: a page of ours, whatever the address says."""
    is_ours = asked.startswith("/") and not asked.startswith(("//", "/\\"))
    return asked if is_ours and asked.isprintable() else "/"


def is_for_programs(request: Request) -> bool:
    """Return whether a request is to the HTTP front, whose errors are JSON."""
    path: str = request.scope["path"]
    return path.startswith(_PROGRAM_PATHS)


def problem_as_json(status: HTTPStatus, text: str) -> Response:
    """Return an answer in the form of OpenAI's errors."""
    told = {"message": text, "type": "invalid_request_error", "param": None}
    return JSONResponse({"error": {**told, "code": status.name.lower()}}, status)


def _problem(request: Request, status: HTTPStatus, text: str) -> Response:
    if is_for_programs(request):
        return problem_as_json(status, text)
    return PlainTextResponse(text + "\n", status)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _with_headers(send: Send, caching: str) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", caching)
        await send(message)

    return send_with_headers
