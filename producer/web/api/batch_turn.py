"""One process's turn at a batch: its record, under a lease that ends if the process dies."""

import contextlib
import secrets
import time
from collections.abc import Iterator

from producer.batches.actions import cancel_batch
from producer.batches.views import batch_exists
from producer.connection import server_errors
from producer.keys import http_key
from producer.web.api.batch_output import batches_of
from producer.web.api.files import files_of
from producer.web.api.state import Api

# Of a process that has died: another one goes on after this.
LEASE_S = 60


class BatchTurn:
    """A batch while this process works on it; what it notes is on the server at once."""

    def __init__(self, api: Api, batch_id: str) -> None:
        self.api, self.connection, self.settings = api, api.connection, api.settings
        self.files = files_of(api)
        self._shelf = batches_of(api)
        self.batch = self._shelf.get(batch_id)

    def note(self, **changes: object) -> None:
        """Change the record."""
        self.batch = self.batch.model_copy(update=changes)
        self._shelf.put(self.batch)

    def renew(self) -> None:
        """Keep the lease for a while longer."""
        with server_errors(self.connection):
            self.connection.expire(lease_key(self.batch.id), LEASE_S)

    def is_stopped(self) -> bool:
        """Return whether the batch was cancelled, or its time is up."""
        return now_s() >= self.batch.expires_at or is_cancelled(self.api, self.batch.id)

    def cancel_jobs(self) -> None:
        """Cancel what is left of its jobs."""
        if batch_exists(self.connection, self.batch.id):
            cancel_batch(self.connection, self.settings, self.batch.id)


@contextlib.contextmanager
def lease(api: Api, batch_id: str) -> Iterator[bool]:
    """Give whether the batch is ours to work on until the end of the block."""
    key, token = lease_key(batch_id), secrets.token_hex(8)
    with server_errors(api.connection):
        is_ours = bool(api.connection.set(key, token, nx=True, ex=LEASE_S))
    try:
        yield is_ours
    finally:
        with server_errors(api.connection):
            if is_ours and api.connection.get(key) == token.encode():
                api.connection.delete(key)


def is_at_work(api: Api, batch_id: str) -> bool:
    """Return whether a process works on a batch."""
    with server_errors(api.connection):
        return bool(api.connection.exists(lease_key(batch_id)))


def is_cancelled(api: Api, batch_id: str) -> bool:
    """Return whether somebody asked to cancel a batch."""
    with server_errors(api.connection):
        return bool(api.connection.exists(_cancel_key(batch_id)))


def ask_to_cancel(api: Api, batch_id: str) -> None:
    """Note that a batch is to be cancelled."""
    with server_errors(api.connection):
        api.connection.set(_cancel_key(batch_id), "1", ex=api.settings.http.keep_s)


def now_s() -> int:
    """Return the time in whole seconds since the epoch, as records have it."""
    return int(time.time())


def lease_key(batch_id: str) -> str:
    """Key that stands while a process works on a batch."""
    return http_key("lease", batch_id)


def _cancel_key(batch_id: str) -> str:
    return http_key("cancelled", batch_id)
