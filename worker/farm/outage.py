"""Redis outages: log the first failure, then retry with growing pauses."""

import time

import redis
import structlog

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 5.0

_log = structlog.get_logger()


class Outage:
    """Keeps track of whether the server answers, and of when to try again."""

    def __init__(self, max_wait_s: float = MAX_WAIT_S) -> None:
        """Pause at most `max_wait_s` and at most `MAX_WAIT_S` between two tries."""
        self._max_wait_s = min(max_wait_s, MAX_WAIT_S)
        self._since: float | None = None
        self._wait_s = FIRST_WAIT_S
        self._next_try = 0.0

    @property
    def is_active(self) -> bool:
        """Return whether the last command failed."""
        return self._since is not None

    @property
    def may_retry(self) -> bool:
        """Return whether the pause since the last failed command is over."""
        return time.monotonic() >= self._next_try

    def record(self, error: redis.RedisError) -> None:
        """Record a failed command: log the first one, double the pause before the next try."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            _log.warning("server_lost", error=_without_secrets(error))
        self._next_try = now + self._wait_s
        self._wait_s = min(2 * self._wait_s, self._max_wait_s)

    def clear(self) -> bool:
        """Record that the server answers; return whether that ended an outage."""
        if self._since is None:
            return False
        _log.warning("server_back", outage_s=round(time.monotonic() - self._since, 1))
        self._since, self._wait_s, self._next_try = None, FIRST_WAIT_S, 0.0
        return True


def _without_secrets(error: redis.RedisError) -> str:
    """Return type and first line: redis-py puts addresses there, but no passwords."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
