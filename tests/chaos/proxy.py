"""A TCP proxy that loses replies: the server has done it, the client never hears of it."""

import contextlib
import random
import re
import socket
import threading
from collections.abc import Callable

CHUNK_BYTES = 1 << 16
# Only these may be repeated or repaired; the rest of the traffic passes.
WRITES = re.compile(rb"EVALSHA|EXEC|HSET|MULTI", re.IGNORECASE)


class LossyProxy:
    """Forwards to a server and, where `loses` says so, cuts the line before the reply."""

    def __init__(self, server_port: int, loses: Callable[[bytes], bool]) -> None:
        self._server_port, self._loses = server_port, loses
        self.num_lost = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            _hang_up(each)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._open |= {client, server}
            line = _Line()
            for source, target, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(
                    target=self._pump, args=(source, target, line, is_reply), daemon=True
                ).start()

    def _pump(
        self, source: socket.socket, target: socket.socket, line: "_Line", is_reply: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if is_reply and line.cut:
                    self.num_lost += 1
                    break
                if not is_reply and self._loses(data):
                    line.cut = True
                target.sendall(data)
        for each in (source, target):
            _hang_up(each)
            self._open.discard(each)


class _Line:
    cut = False


def loses_at_random(rate: float, seed: int) -> Callable[[bytes], bool]:
    """Return a choice of writes whose reply is lost."""
    chance = random.Random(seed)
    return lambda data: bool(WRITES.search(data)) and chance.random() < rate


def _hang_up(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        each.close()
