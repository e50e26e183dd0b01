"""Turns each scrape into a look at the farm, at most one in a few seconds."""

import threading
import time
from collections.abc import Iterator

import redis
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.retry import Retry

from producer.connection import connect
from producer.errors import ServerUnreachable
from producer.metrics.families import farm_metrics, gauge
from producer.metrics.snapshot import take_snapshot
from producer.roster import Roster, tell_of_lost
from producer.settings import Settings

# Scrapes within this time are given the same look; a scrape interval is longer.
MAX_AGE_S = 3.0
# A worker is told of as lost if it was late at a look this long ago as well: after an outage of the
# server all of them are, until their next heartbeats.
LATE_FOR_S = 15.0

_log = structlog.get_logger(__name__)


class LostWatch:
    """Tells of workers that stay late, for farms in which no worker is left to do so."""

    def __init__(self, late_for_s: float = LATE_FOR_S) -> None:
        self._late_for_s = late_for_s
        self._late_since: dict[str, float] = {}

    def overdue(self, roster: Roster) -> list[str]:
        """Return the workers that are late, and have been for a while."""
        now = time.monotonic()
        late = {each.name for each in roster.workers if "no_heartbeat" in each.marks}
        self._late_since = {name: self._late_since.get(name, now) for name in late}
        return [name for name, since in self._late_since.items() if now - since >= self._late_for_s]

    def clear(self) -> None:
        """Begin anew: the server was away."""
        self._late_since.clear()


class FarmCollector(Collector):
    """Collects the farm's metrics; a server that does not answer is a metric, not an error.

    Args:
        settings: Of the farm.
        max_age_s: For so long one look serves all scrapes; by default `MAX_AGE_S`.
        late_for_s: See `LATE_FOR_S`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_age_s: float | None = None,
        late_for_s: float = LATE_FOR_S,
    ) -> None:
        self._settings = settings
        self._max_age_s = MAX_AGE_S if max_age_s is None else max_age_s
        self._connection: redis.Redis | None = None
        self._watch = LostWatch(late_for_s)
        self._lock = threading.Lock()
        self._latest: list[Metric] = []
        self._looked_at = float("-inf")
        self.is_up = False
        self.last_error = ""

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, from the server or from the last look."""
        with self._lock:
            if time.monotonic() - self._looked_at >= self._max_age_s:
                self._latest = self._look()
                self._looked_at = time.monotonic()
            latest = self._latest
        yield from latest

    def page(self) -> bytes:
        """Return all metrics as Prometheus's text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> list[Metric]:
        """Return nothing: registering asks no server."""
        return []

    def _connected(self) -> redis.Redis:
        """Return a connection without second tries: a scrape must not outlast its time."""
        if self._connection is None:
            self._connection = connect(self._settings)
            self._connection.set_retry(Retry(NoBackoff(), 0))
        return self._connection

    def _look(self) -> list[Metric]:
        started = time.perf_counter()
        try:
            connection = self._connected()
            snapshot = take_snapshot(connection, self._settings)
            tell_of_lost(connection, self._watch.overdue(snapshot.roster))
            found = list(farm_metrics(snapshot))
            self.is_up, self.last_error = True, ""
        except (ServerUnreachable, redis.RedisError) as error:
            if self.is_up or not self.last_error:
                _log.warning("scrape_failed", reason=str(error))
            found, self.is_up, self.last_error = [], False, str(error)
            self._watch.clear()
        return [*found, *self._own(time.perf_counter() - started)]

    def _own(self, took_s: float) -> Iterator[Metric]:
        """Yield what is said of the look itself."""
        yield gauge("redis_up", "1 if the server answered.", (), [((), self.is_up)])
        yield gauge("scrape_seconds", "Time of this look.", (), [((), took_s)])
