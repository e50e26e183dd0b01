"""Connect to the server, the one that redis.url names or the embedded one, and read its clock."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from producer import embedded
from producer.errors import InvalidSettings, LocalNetworkDenied, ServerUnreachable
from producer.masking import mask_url
from producer.server_replies import is_not_now, reply_code
from producer.settings import RedisSettings, Settings

# Below the shortest idle timeout of common NATs and load balancers.
HEALTH_CHECK_INTERVAL_S = 15
# A server that does not take a connection in this time is said to be unreachable.
CONNECT_TIMEOUT_S = 4.0


def connect(settings: Settings) -> redis.Redis:
    """Return a connection that has answered a ping; starts the embedded server if it must.

    Raises:
        ServerUnreachable: nothing answers there, or it refuses us; within about 5 seconds.
        InvalidSettings: redis.url is not an address, or TLS files are given without rediss://.
    """
    section = settings.redis
    url = section.url.get_secret_value() if section.url else None
    socket_path = None if url else embedded.ensure_running(settings)
    # A home's name may hold what means something in an address.
    connection = _client(section, url or f"unix://{quote(str(socket_path))}")
    # The first ping must fail fast; later commands ride out a server that restarts.
    with server_errors(connection):
        connection.ping()
    connection.set_retry(Retry(ExponentialBackoff(cap=1.0, base=0.1), 3))
    return connection


# What must hold where the server refuses, by the first word of its reply.
_REFUSALS = {
    "MISCONF": "the server must be able to write to its disk",
    "OOM": "the server must have room",
    "NOPERM": "the server must let us in",
    "READONLY": "the server must let us in",
    "WRONGPASS": "the server must know the user and password of redis.url",
}


@contextlib.contextmanager
def server_errors(connection: redis.Redis) -> Iterator[None]:
    """Translate redis-py's errors of an absent or refusing server into `ServerUnreachable`.

    macOS says "no route to host" at once where its privacy settings keep a program from machines
    of its own network: that becomes `LocalNetworkDenied`.
    """
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.InvalidResponse) as error:
        if sys.platform == "darwin" and _has_no_route(error):
            must = "macOS must let this program reach its own network, as it lets daemons"
            raise LocalNetworkDenied(server_name(connection), must, error) from error
        constraint = _REFUSALS.get(reply_code(error), "a Redis server must answer")
        raise ServerUnreachable(server_name(connection), constraint, error) from error
    except redis.ResponseError as error:
        if not is_not_now(error):
            raise
        constraint = _REFUSALS.get(reply_code(error), "the server must take commands now")
        raise ServerUnreachable(server_name(connection), constraint, error) from error


def server_time_s(connection: redis.Redis) -> float:
    """Return the server's time in seconds since the epoch: the clock that all machines share."""
    with server_errors(connection):
        seconds, micros = connection.time()
    return float(seconds) + micros / 1e6


def _client(section: RedisSettings, url: str) -> redis.Redis:
    options: dict[str, Any] = {
        "socket_timeout": section.socket_timeout_s,
        "socket_connect_timeout": min(section.socket_timeout_s, CONNECT_TIMEOUT_S),
        "health_check_interval": HEALTH_CHECK_INTERVAL_S,
        "retry": Retry(NoBackoff(), 0),
    }
    if not url.startswith("unix://"):
        options["socket_keepalive"] = True
    try:
        options |= _tls_options(section, url) | redis.connection.parse_url(url)
        # The forms of answers that we read, whatever the address asks for.
        return redis.Redis.from_pool(redis.ConnectionPool(**options | {"protocol": 2}))
    except (ValueError, TypeError) as error:
        must = "must be redis://, rediss:// or unix://"
        if url.startswith(("redis://", "rediss://")):
            must = "must be like redis://HOST:PORT/NUMBER, its port 1 to 65535"
        raise InvalidSettings("redis.url", must, mask_url(url)) from error


def _tls_options(section: RedisSettings, url: str) -> dict[str, Any]:
    files = {
        "ssl_ca_certs": section.ca_certs,
        "ssl_certfile": section.certfile,
        "ssl_keyfile": section.keyfile,
    }
    given = {name: path for name, path in files.items() if path is not None}
    for name, path in given.items():
        key = "redis." + name.removeprefix("ssl_")
        if not url.startswith("rediss://"):
            raise InvalidSettings(key, "needs a rediss:// address in redis.url", mask_url(url))
        if not path.is_file():
            raise InvalidSettings(key, "must be an existing file", path)
    return {name: str(path) for name, path in given.items()}


def _has_no_route(error: BaseException | None) -> bool:
    """Return whether the system said EHOSTUNREACH, 65 on macOS, behind redis-py's own error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.EHOSTUNREACH:
            return True
        error = error.__cause__ or error.__context__
    return False


def server_name(connection: redis.Redis) -> str:
    """Return a server's address without its secrets: the socket, or host and port."""
    options = connection.get_connection_kwargs()
    if path := options.get("path"):
        return f"unix://{path}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
