"""How much the HTTP front keeps in all: recordings, files of lines, and what is kept of lines."""

from typing import Any

import redis

from producer.connection import server_errors
from producer.errors import QueueFull
from producer.keys import http_key
from producer.scripts import Scripts
from producer.settings import Settings


class Room:
    """Counts what is kept, by name and bytes, until it is dropped."""

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self._connection, self._settings = connection, settings

    def take(self, name: str, num_bytes: int, ttl_s: int) -> None:
        """Count something; what is counted already stays so, and longer.

        Raises:
            QueueFull: all together would have more than http.max_stored_bytes.
            ServerUnreachable: the server does not answer.
        """
        http = self._settings.http
        with server_errors(self._connection):
            answer: Any = Scripts(self._connection).run(
                "take_room",
                name=name,
                num_bytes=num_bytes,
                ttl_s=ttl_s,
                max_bytes=http.max_stored_bytes,
                max_files=http.max_files + http.max_batches,
            )
        is_taken, total = answer
        if not is_taken:
            must = f"has room for {http.max_stored_bytes} bytes (http.max_stored_bytes)"
            raise QueueFull("http", must, total + num_bytes)

    def give_back(self, name: str, num_bytes: int) -> None:
        """Count something no more: it was dropped before its time."""
        with server_errors(self._connection):
            self._connection.zrem(http_key("room", "all"), f"{name}:{num_bytes}")
