"""A server that does not answer: said once, waited out, never spun on."""

import time

import redis
import structlog

# Gone, restarting, full or read-only: all of these pass, and work in flight goes on meanwhile.
OUTAGES = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
)

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 5.0

_log = structlog.get_logger()


class Outage:
    """Whether the server answers, and when to ask it again."""

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        """Ask at least every `max_wait_s`, and every `MAX_WAIT_S`, whether it is back."""
        self._max_wait_s = min(max_wait_s, MAX_WAIT_S)
        self._since: float | None = None
        self._wait_s = FIRST_WAIT_S
        self._next_try = 0.0

    @property
    def is_on(self) -> bool:
        """True between a command that failed and one that did not."""
        return self._since is not None

    @property
    def is_time(self) -> bool:
        """True if the server may be asked now."""
        return time.monotonic() >= self._next_try

    def note(self, error: redis.RedisError) -> None:
        """Take a failed command: log the first one, wait longer before each next try."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            _log.warning("server_lost", error=_without_secrets(error))
        self._next_try = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, self._max_wait_s)

    def end(self) -> bool:
        """Take a command that succeeded; True if that ended an outage."""
        if self._since is None:
            return False
        _log.warning("server_back", outage_s=round(time.monotonic() - self._since, 1))
        self._since, self._wait_s, self._next_try = None, FIRST_WAIT_S, 0.0
        return True


def _without_secrets(error: redis.RedisError) -> str:
    """Name the error; redis-py puts addresses but no passwords in its first line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
