"""When a batch was last reported on, kept on the server: so that a report can tell what is new."""

from typing import Any

import redis

from producer.connection import server_errors
from producer.keys import reported_key
from producer.settings import Settings
from producer.stored_fields import stored_number


def last_report_s(connection: redis.Redis, batch: str) -> float | None:
    """Return when the last report began, in seconds since the epoch by the server's clock, or None.

    Raises:
        ServerUnreachable: the server went away.
    """
    with server_errors(connection):
        stored: Any = connection.get(reported_key(batch))
    return stored_number(stored) or None


def remember_report(
    connection: redis.Redis, settings: Settings, batch: str, began_s: float
) -> None:
    """Keep when a report began: what ended while it was made is in the next one too, never in none.

    Raises:
        ServerUnreachable: the server went away.
    """
    with server_errors(connection):
        connection.set(reported_key(batch), f"{began_s:.6f}", ex=settings.queue.result_ttl_s)
