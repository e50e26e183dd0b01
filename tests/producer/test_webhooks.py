"""Webhooks: every event reaches the receiver, signed, in order, whatever fails meanwhile."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import standardwebhooks
from pydantic import SecretStr

from producer.errors import InvalidOptions, WebhookGone
from producer.events import Event, read_events
from producer.keys import EVENTS_KEY
from producer.webhooks import Endpoint, Relay, payload, signed_headers
from tests.stage.archive_farm import ArchiveFarm

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Receiver:
    """An HTTP server that answers as told and keeps what it took."""

    def __init__(self):
        self.answers = []
        self.received = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.received.append((dict(self.headers.items()), body))
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def job_ids(self):
        return [json.loads(body)["data"]["job_id"] for _, body in self.received]

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def endpoint(url, **options):
    return Endpoint(url, SecretStr(SECRET), **{"backoff_s": 0.01, "max_backoff_s": 0.05, **options})


def add_event(connection, job_id, **fields):
    event = {"job_id": job_id, "status": "succeeded", "code": "", "worker": "w", "batch": "b"}
    return connection.xadd(EVENTS_KEY, {**event, **fields})


def deliver_all(connection, to, **options):
    return list(Relay(connection, to, from_start=True, **options).deliveries(follow=False))


def test_events_are_posted_in_order_and_verified_by_the_standards_own_library(connection, receiver):
    """The signature, the id and the time are those of Standard Webhooks."""
    for job_id in ("one", "two", "three"):
        add_event(connection, job_id)
    deliveries = deliver_all(connection, endpoint(receiver.url))
    assert [each.outcome for each in deliveries] == ["delivered"] * 3
    assert receiver.job_ids() == ["one", "two", "three"]
    headers, body = receiver.received[0]
    verified = standardwebhooks.Webhook(SECRET).verify(body, headers)
    assert verified["type"] == "job.succeeded"
    assert verified["data"] == json.loads(deliveries[0].event.to_json())


def test_a_tampered_body_is_refused_by_the_receivers_library():
    """The signature covers every byte."""
    event = Event.from_entry(b"1700000000000-0", {b"job_id": b"a", b"status": b"failed"})
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    headers = signed_headers(event.id, payload(event), key, 1_700_000_000)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(payload(event) + b" ", headers)


def test_a_receiver_in_trouble_is_tried_again_until_it_takes_the_event(connection, receiver):
    """Every repetition has the same id, so that the receiver can tell; nothing is skipped."""
    for job_id in ("one", "two"):
        add_event(connection, job_id)
    receiver.answers = [500, 503, 429, 502, 500, 500, 204]
    deliveries = deliver_all(connection, endpoint(receiver.url))
    assert [each.outcome for each in deliveries] == ["delivered"] * 2
    assert receiver.job_ids() == ["one"] * 7 + ["two"]
    ids = {headers["webhook-id"] for headers, _ in receiver.received[:7]}
    assert len(ids) == 1


def test_an_event_that_the_receiver_refuses_does_not_hold_up_the_others(connection, receiver):
    """4xx is the receiver's last word on one event."""
    for job_id in ("one", "two"):
        add_event(connection, job_id)
    receiver.answers = [400]
    deliveries = deliver_all(connection, endpoint(receiver.url))
    assert [each.outcome for each in deliveries] == ["refused", "delivered"]
    assert deliveries[0].status == 400


def test_a_receiver_that_is_gone_ends_the_relay_and_keeps_the_events(connection, receiver):
    """410: the relay stops; what was not taken waits for the next one."""
    add_event(connection, "one")
    receiver.answers = [410]
    with pytest.raises(WebhookGone, match="must want events"):
        deliver_all(connection, endpoint(receiver.url))
    again = deliver_all(connection, endpoint(receiver.url), reclaim_after_s=0)
    assert [each.event.job_id for each in again] == ["one"]


def test_a_relay_that_died_is_taken_over_and_nothing_is_lost(connection, receiver):
    """It had read two events and posted one of them."""
    for job_id in ("one", "two", "three"):
        add_event(connection, job_id)
    died = Relay(connection, endpoint(receiver.url), from_start=True).deliveries(follow=False)
    assert next(died).event.job_id == "one"
    died.close()
    rest = deliver_all(connection, endpoint(receiver.url), reclaim_after_s=0)
    assert [each.event.job_id for each in rest] == ["two", "three"]
    assert deliver_all(connection, endpoint(receiver.url), reclaim_after_s=0) == []


def test_each_endpoint_gets_every_event(connection, receiver):
    """Two receivers do not take each other's."""
    add_event(connection, "one")
    first, second = endpoint(receiver.url + "?1"), endpoint(receiver.url + "?2")
    assert len(deliver_all(connection, first)) == len(deliver_all(connection, second)) == 1


def test_other_kinds_are_posted_to_who_asks_for_them(connection, receiver):
    """Their types are their names with a dot; a kind that is not asked for is passed over."""
    add_event(connection, "a")
    connection.xadd(EVENTS_KEY, {"kind": "worker_lost", "worker": "mini-3", "code": "worker_lost"})
    done = {"kind": "batch_done", "batch": "b", "num_succeeded": "7", "num_failed": "1"}
    connection.xadd(EVENTS_KEY, done)
    deliver_all(connection, endpoint(receiver.url), kinds={"batch_done", "worker_lost"})
    posted = [json.loads(body) for _, body in receiver.received]
    assert [each["type"] for each in posted] == ["worker.lost", "batch.done"]
    assert posted[1]["data"]["num_succeeded"] == 7
    assert "until" not in posted[1]["data"]


def test_a_new_relay_begins_with_the_next_event_unless_told_otherwise(connection, receiver):
    """Old news are not posted by surprise."""
    add_event(connection, "old")
    relay = Relay(connection, endpoint(receiver.url))
    add_event(connection, "new")
    assert [each.event.job_id for each in relay.deliveries(follow=False)] == ["new"]


@pytest.mark.parametrize(
    ("url", "secret", "named"),
    [
        ("ftp://example.org", SECRET, "webhook URL"),
        ("example.org/hook", SECRET, "webhook URL"),
        ("http://example.org", "whsec_c2hvcnQ=", "webhook secret"),
        ("http://example.org", "not base64!", "webhook secret"),
    ],
)
def test_a_wrong_url_or_secret_is_refused_without_showing_the_secret(
    connection, url, secret, named
):
    """Before anything is posted."""
    with pytest.raises(InvalidOptions, match=named) as caught:
        Relay(connection, Endpoint(url, SecretStr(secret)))
    assert secret not in str(caught.value)


def test_reading_events_ends_where_the_stream_ends(connection):
    """Without follow all there is, after an id only what is newer; unknown fields are left out."""
    first = add_event(connection, "one", colour="blue")
    add_event(connection, "two", status="failed", code="poison")
    assert [event.job_id for event in read_events(connection)] == ["one", "two"]
    (second,) = read_events(connection, first.decode())
    assert (second.status, second.code) == ("failed", "poison")
    assert list(read_events(connection, second.id, follow=True, timeout_s=0.1)) == []


def test_the_command_relays_until_all_is_delivered(tmp_path, receiver):
    """The secret comes from a file or the environment, never from the command line."""
    farm = ArchiveFarm(tmp_path)
    try:
        add_event(farm.connection, "one")
        (tmp_path / "secret").write_text(SECRET + "\n")
        options = ("relay", "--url", receiver.url, "--once", "--from-start")
        _, stderr = farm.run(*options, "--secret-file", "secret")
        assert "1 events delivered, 0 refused" in stderr
        assert receiver.job_ids() == ["one"]
        _, stderr = farm.run(*options, code=2)
        assert "WEBHOOK_SECRET" in stderr
    finally:
        farm.stop()
