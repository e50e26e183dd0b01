"""Webhooks: read the events stream and post each event, signed, at least once.

The body is JSON, `{"type": "job.succeeded", "timestamp": ..., "data": {the event}}`, with types such
as `job.failed`, `batch.done` and `worker.lost` for the kinds that are asked for, signed as
https://www.standardwebhooks.com describes: headers `webhook-id` (the same for every repetition),
`webhook-timestamp` and `webhook-signature`. Events are written in the transaction that stores the
result, and one is acknowledged only when the receiver has answered, so none is lost while the
stream holds it (about a hundred thousand events) and some may come twice.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import socket
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import redis
import structlog
import urllib3
from pydantic import SecretStr
from urllib3.util import Retry, Timeout

from producer.connection import server_errors
from producer.errors import InvalidOptions, Unreadable, WebhookGone
from producer.events import ENDS, MAX_BLOCK_S, Event, Kind
from producer.keys import EVENTS_KEY
from producer.masking import server_of

SECRET_PREFIX = "whsec_"  # noqa: S105 - the standard's mark, not a secret
_MIN_SECRET_BYTES = 24

# Answers after which the event is posted again; any other 4xx refuses it.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_GONE = 410
_PAGE = 10
# A relay that died leaves events in its hands; another takes them over after this.
RECLAIM_AFTER_S = 30.0

log = structlog.get_logger(__name__)


class Delivery(NamedTuple):
    """The receiver's answer to one event; a `refused` event is not posted again."""

    event: Event
    outcome: Literal["delivered", "refused"]
    status: int


@dataclass(frozen=True)
class Endpoint:
    """Where events go.

    Attributes:
        secret: Shared with the receiver: `whsec_` and at least 24 bytes in base64.
        backoff_s: First pause between two attempts; it doubles each time.
        max_backoff_s: Longest pause, also if the receiver asks for a longer one.
        timeout_s: Until the receiver must have answered.
    """

    url: str
    secret: SecretStr
    backoff_s: float = 0.5
    max_backoff_s: float = 60.0
    timeout_s: float = 10.0

    def key(self) -> bytes:
        """Return the signing key.

        Raises:
            InvalidOptions: the secret is not of the standard's form.
        """
        encoded = self.secret.get_secret_value().strip().removeprefix(SECRET_PREFIX)
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < _MIN_SECRET_BYTES:
            limit = f"must be {SECRET_PREFIX} and at least {_MIN_SECRET_BYTES} bytes in base64"
            raise InvalidOptions("webhook secret", limit)
        return key


class Relay:
    """Posts the events of one stream to one endpoint; several may share the work."""

    def __init__(
        self,
        connection: redis.Redis,
        endpoint: Endpoint,
        *,
        from_start: bool = False,
        kinds: Collection[Kind] = ENDS,
        reclaim_after_s: float = RECLAIM_AFTER_S,
    ) -> None:
        """Join the endpoint's consumer group, which remembers what was delivered.

        Events of other kinds than `kinds` are passed over. A new group begins with the next event, `from_start` with the oldest. Events that
        another relay took and did not deliver are taken over after `reclaim_after_s`.

        Raises:
            InvalidOptions: no http(s) URL, or a secret that is none.
        """
        parts = urlsplit(endpoint.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidOptions(
                "webhook URL", "must be http:// or https://", server_of(endpoint.url)
            )
        self._connection, self._endpoint, self._key = connection, endpoint, endpoint.key()
        self._reclaim_after_ms = int(reclaim_after_s * 1000)
        self._group = f"relay-{hashlib.sha256(endpoint.url.encode()).hexdigest()[:12]}"
        self._consumer = f"{socket.gethostname()}-{os.getpid()}"
        self._http = urllib3.PoolManager(num_pools=1, maxsize=1)
        self._pause_s = endpoint.backoff_s
        self._kinds = frozenset(kinds)
        self._join("0" if from_start else "$")

    def deliveries(self, *, follow: bool = True) -> Iterator[Delivery]:
        """Post events in their order and yield what came of each; without `follow` until none wait.

        While the receiver does not answer, nothing is skipped: the relay waits and tries again.

        Raises:
            WebhookGone: the receiver answered 410.
            ServerUnreachable: Redis went away.
        """
        while True:
            entries = self._next_entries(block=follow)
            for entry_id, fields in entries:
                event = self._wanted(entry_id, fields)
                delivery = self._deliver(event) if event else None
                with server_errors(self._connection):
                    self._connection.xack(EVENTS_KEY, self._group, entry_id)
                if delivery:
                    yield delivery
            if not entries and not follow:
                return

    def _join(self, start: str) -> None:
        try:
            with server_errors(self._connection):
                self._connection.xgroup_create(EVENTS_KEY, self._group, start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _next_entries(self, *, block: bool) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return events of a relay that died, or else new ones."""
        with server_errors(self._connection):
            _, taken, *_ = self._connection.xautoclaim(
                EVENTS_KEY, self._group, self._consumer, self._reclaim_after_ms, count=_PAGE
            )
            if taken:
                return [(entry_id, fields) for entry_id, fields in taken if fields]
            answer: Any = self._connection.xreadgroup(
                self._group,
                self._consumer,
                {EVENTS_KEY: ">"},
                count=_PAGE,
                block=int(MAX_BLOCK_S * 1000) if block else None,
            )
        return answer[0][1] if answer else []

    def _wanted(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Event | None:
        """Return the event to post; None for one of another kind, and for what is no event."""
        try:
            event = Event.from_entry(entry_id, fields)
        except Unreadable as error:
            log.warning("event_unreadable", reason=str(error))
            return None
        return event if event.kind in self._kinds else None

    def _deliver(self, event: Event) -> Delivery:
        while True:
            status, reason, pause_s = self._post(event)
            if status == _GONE:
                where = server_of(self._endpoint.url)
                raise WebhookGone("relay", "the receiver must want events (status 410)", where)
            if status is not None and status not in _PASSING:
                self._pause_s = self._endpoint.backoff_s
                is_delivered = 200 <= status < 300  # noqa: PLR2004 HTTP's successes
                return Delivery(event, "delivered" if is_delivered else "refused", status)
            pause_s = min(max(pause_s, self._pause_s), self._endpoint.max_backoff_s)
            log.warning(
                "webhook_unanswered",
                event_id=event.id,
                receiver=server_of(self._endpoint.url),
                reason=reason,
                retry_in_s=pause_s,
            )
            time.sleep(pause_s)
            self._pause_s = 2 * pause_s

    def _post(self, event: Event) -> tuple[int | None, str, float]:
        """Return the receiver's status (None: no answer), the reason, and the pause it asks for."""
        body = payload(event)
        try:
            response = self._http.request(
                "POST",
                self._endpoint.url,
                body=body,
                headers=signed_headers(event.id, body, self._key, int(time.time())),
                retries=False,
                redirect=False,
                timeout=Timeout(total=self._endpoint.timeout_s),
            )
        except urllib3.exceptions.HTTPError as error:
            # Not its text, which may hold the whole URL.
            return None, type(error).__name__, 0.0
        return response.status, f"status {response.status}", _asked_pause_s(response)


def _asked_pause_s(response: urllib3.BaseHTTPResponse) -> float:
    """Return the receiver's Retry-After in seconds, 0 if it says nothing that we understand."""
    try:
        return Retry().get_retry_after(response) or 0.0
    except urllib3.exceptions.InvalidHeader:
        return 0.0


def payload(event: Event) -> bytes:
    """Return the body that is posted for an event."""
    data = event.model_dump(mode="json", by_alias=True, exclude_none=True)
    document = {"type": _type_of(event), "timestamp": event.at, "data": data}
    return json.dumps(document, separators=(",", ":")).encode()


def _type_of(event: Event) -> str:
    """Return the type as the standard has it: job.succeeded, batch.done, worker.lost."""
    if event.status:
        return f"job.{event.status}"
    subject, _, what = event.kind.partition("_")
    return f"{subject}.{what}"


def signed_headers(message_id: str, body: bytes, key: bytes, timestamp_s: int) -> dict[str, str]:
    """Return the headers of https://www.standardwebhooks.com: HMAC-SHA256 over id, time, body."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return {
        "content-type": "application/json",
        "user-agent": "scribefarm-relay",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }
