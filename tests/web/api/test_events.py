"""Server-sent events: as they come, and from where a client stood."""

import json

import httpx
import pytest

from producer.events import last_event_id
from producer.job import Job
from tests.stage.fake_engine import source
from tests.stage.farm import wait_until


def read(response, count):
    """Return the next events of a stream, each as its fields."""
    events, fields = [], {}
    for text in response.iter_lines():
        if text.startswith(":"):
            continue
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif fields:
            events.append(fields)
            fields = {}
            if len(events) == count:
                return events
    return events


def end_some(farm, *names):
    jobs = [Job(source=source(name), audio_sha256=f"{ord(name):064x}") for name in names]
    for job_id in farm.submit(*jobs):
        farm.result(job_id)


@pytest.fixture
def client(front):
    with httpx.Client(base_url=front.url, timeout=20) as made:
        yield made


def test_events_come_when_they_happen(client, farm, front):
    """A client that follows hears of the end of a job; each event has its id and kind."""
    farm.start()
    with client.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        wait_until(lambda: front.app.state.api.waiters.num_following)
        end_some(farm, "a")
        [event] = read(response, 1)
    document = json.loads(event["data"])
    assert (event["event"], document["status"]) == ("job_ended", "succeeded")
    assert event["id"] == document["id"]
    assert len(document["trace_id"]) == 32


def test_who_comes_back_misses_none(client, farm, connection):
    """`Last-Event-ID` as browsers send it, or `after`."""
    farm.start()
    end_some(farm, "a")
    first = last_event_id(connection)
    end_some(farm, "b", "c")
    with client.stream("GET", "/events", headers={"last-event-id": first}) as response:
        later = read(response, 2)
    assert len({event["id"] for event in later} - {first}) == 2
    with client.stream("GET", "/events", params={"after": "0-0"}) as response:
        assert len(read(response, 3)) == 3
    with client.stream("GET", "/events", params={"after": "0-0", "batch": "none"}) as response:
        wait_until(lambda: response.status_code == 200)


def test_an_entry_that_is_no_event_is_passed_over(client, farm, connection):
    """Another program's, of any bytes."""
    farm.start()
    connection.xadd("scribefarm:events", {b"\xff": b"\r\n\r\ndata: evil"})
    connection.xadd("scribefarm:events", {"job_id": "a\n\ndata: evil", "status": "failed"})
    end_some(farm, "a")
    with client.stream("GET", "/events", params={"after": "0"}) as response:
        odd, sound = read(response, 2)
    assert json.loads(odd["data"])["job_id"] == "a\n\ndata: evil"
    assert json.loads(sound["data"])["status"] == "succeeded"


@pytest.mark.parametrize("after", ["x", "1-", "$", "-1", "9" * 30, "1\n2"])
def test_an_id_that_is_none_is_refused(client, after):
    """By its form, before the server is asked."""
    answer = client.get("/events", params={"after": after})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")
