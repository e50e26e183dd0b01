"""A web server on this machine that gives recordings as well, and as badly, as the real ones do."""

import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Route = Callable[["Handler"], None]
# What the tests' servers listen on; as a network that may be asked.
LOOPBACK = ("127.0.0.0/8",)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def log_message(self, *_):
        """The tests' output is their own."""

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        try:
            self.server.routes.get(path, status(404))(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_HEAD = _answer  # noqa: N815

    def begin(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def give(self, content):
        if self.command != "HEAD":
            self.wfile.write(content)
            self.wfile.flush()

    def cut(self):
        """End the connection in the middle of an answer."""
        self.wfile.flush()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Answers by `routes`, and keeps in `seen` what it was asked: method, path, headers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.routes: dict[str, Route] = {}
        self.seen = []
        self.ends = threading.Event()  # what stalls, stalls until then
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def handle_error(self, *_):
        """A client that goes away in the middle is what some tests are about."""

    def url(self, path, user=""):
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self.server_port}{path}"

    def stop(self):
        self.ends.set()
        self.shutdown()
        self._thread.join()
        self.server_close()


def whole(content, *, etag='"1"', modified=None, kind="audio/wav", cuts=(), ranges=True):
    """Give a recording; the first answers break off after as many bytes as `cuts` says."""
    left = list(cuts)

    def route(handler):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        condition = handler.headers.get("If-Range")
        headers = {"Content-Type": kind} | ({"ETag": etag} if etag else {})
        if modified:
            headers["Last-Modified"] = modified
        start, end, code = 0, len(content), 200
        if asked and ranges and condition in {None, etag, modified}:
            start, code = int(asked[1]), 206
            end = min(end, int(asked[2]) + 1) if asked[2] else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        handler.begin(code, headers | {"Content-Length": end - start})
        if left and handler.command == "GET":
            handler.give(content[start : start + left.pop(0)])
            handler.cut()
        else:
            handler.give(content[start:end])

    return route


def status(code):
    return lambda handler: handler.begin(code, {"Content-Length": 0})


def redirect(location, code=302):
    return lambda handler: handler.begin(code, {"Location": location, "Content-Length": 0})


def page(handler):
    """What a portal sends in the place of a recording."""
    content = b"<html>Sign in</html>"
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(content)}
    handler.begin(200, headers)
    handler.give(content)


def stall_after(content, num_bytes):
    """Give so much of a recording, and then nothing."""

    def route(handler):
        handler.begin(200, {"Content-Type": "audio/wav", "Content-Length": len(content)})
        handler.give(content[:num_bytes])
        handler.server.ends.wait(60)
        handler.cut()

    return route


def silent(handler):
    """Take the request, and never answer."""
    handler.server.ends.wait(60)
    handler.cut()


def drip_headers(handler):
    """Answer with a header line every 20 ms, for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.ends.wait(0.02):
        handler.wfile.write(b"X: y\r\n")


def drip(content):
    """Give one byte every 10 ms."""

    def route(handler):
        handler.begin(200, {"Content-Type": "audio/wav", "Content-Length": len(content)})
        for index in range(len(content)):
            if handler.server.ends.wait(0.01):
                break
            handler.give(content[index : index + 1])
        handler.cut()

    return route


def endless(handler):
    """Send for ever, without a length."""
    handler.begin(200, {"Content-Type": "audio/mpeg", "Transfer-Encoding": "chunked"})
    while not handler.server.ends.is_set():
        handler.give(b"10000\r\n" + b"\0" * 0x10000 + b"\r\n")
