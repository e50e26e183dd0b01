"""Give up waiting for results when nobody is there to work."""

import time

import redis

from producer.errors import NoWorker
from producer.fleet import live_workers
from producer.pending import PendingJobs
from producer.settings import Settings


class WorkerWatch:
    """An `on_tick` of `wait_for_results` that ends the wait when no worker is alive."""

    def __init__(
        self, connection: redis.Redis, settings: Settings, no_worker_s: float | None = None
    ) -> None:
        """Give up when no worker was alive for `no_worker_s`.

        By default that is the length of a lease, and the first look counts at once: most likely
        nobody has started a worker yet.
        """
        self._connection, self._settings = connection, settings
        self._patience_s = settings.worker.lease_s if no_worker_s is None else no_worker_s
        self._last_seen = float("-inf") if no_worker_s is None else time.monotonic()

    def __call__(self, pending: PendingJobs) -> None:
        """Look for live workers; `pending` are the jobs still waited for.

        Raises:
            NoWorker: none was alive for long enough.
        """
        if live_workers(self._connection, self._settings):
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen >= self._patience_s:
            raise NoWorker(
                "wait",
                "a worker must be alive; start one with: scribefarm-worker run",
                f"none, and jobs waited for: {len(pending)}",
            )
