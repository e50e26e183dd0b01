"""Give up waiting for results when nobody is there to work."""

import time

import redis

from producer.errors import NoWorker
from producer.fleet import live_workers
from producer.models_served import is_served, queued_by_model, unserved, unserved_lines
from producer.pending import PendingJobs
from producer.settings import Settings


class WorkerWatch:
    """An `on_tick` of `wait_for_results` that ends the wait when no worker has the jobs' model."""

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
            NoWorker: none that could do one of the jobs was alive for long enough.
        """
        workers = live_workers(self._connection, self._settings)
        if is_served(self._connection, pending, workers):
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen >= self._patience_s:
            waiting = queued_by_model(self._connection, self._settings.worker.queues)
            hints = unserved_lines(unserved(waiting, workers)) if workers else ()
            raise NoWorker(
                "wait",
                "a worker must be alive; start one with: scribefarm-worker run",
                "; ".join((f"none, and jobs waited for: {len(pending)}", *hints)),
            )
