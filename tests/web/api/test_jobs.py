"""`POST /jobs`: the farm's own options; recordings only from where they may come."""

import httpx
import pytest

from tests.stage.farm import wait_until


@pytest.fixture
def client(start_front, tmp_path):
    front = start_front(audio={"roots": [str(tmp_path / "archive")]})
    (tmp_path / "archive").mkdir()
    with httpx.Client(base_url=front.url, timeout=30) as made:
        yield made


def test_a_job_with_options_of_the_farm(client, farm, write_noise, tmp_path):
    """Its batch and metadata come back; the trace is the request's."""
    write_noise("archive/talk.wav")
    asked = {
        "source": str(tmp_path / "archive" / "talk.wav"),
        "options": {"hotwords": "Krapp", "word_timestamps": True},
        "audio": {"vad": "skip-silence"},
        "batch": "night",
        "name": "talk",
        "metadata": {"shelf": 7},
    }
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = client.post(
        "/jobs", json=asked, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert (answer.status_code, answer.json()["trace_id"]) == (202, trace)
    assert answer.headers["x-request-id"] == trace
    farm.start()
    where = answer.headers["location"]
    done = wait_until(lambda: (found := client.get(where).json()).get("result") and found)
    assert done["trace_id"] == trace
    result = client.get(done["result"]).json()
    assert (result["metadata"], result["trace_id"]) == ({"shelf": 7}, trace)
    [file] = client.get("/jobs", params={"batch": "night"}).json()["data"]
    assert (file["name"], file["state"]) == ("talk", "succeeded")
    assert client.get("/batches/night").json()["counts"]["succeeded"] == 1


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("/etc/passwd", 403),
        ("{archive}/../outside.wav", 403),
        ("{archive}/link.wav", 403),
        ("{archive}/absent.wav", 404),
        ("{archive}", 415),
        ("talk.wav", 400),
        ("{archive}/a\u0000b", 400),
        ("file:///etc/passwd", 400),
        ("ftp://example.org/a.wav", 400),
        ("s3://bucket/", 400),
        ("upload://" + "0" * 64 + "/a.wav", 400),
        ("http://127.0.0.1/a.wav", 403),
        ("http://169.254.169.254/latest/meta-data", 403),
        ("file-unknown", 404),
    ],
)
def test_nothing_outside_is_read(client, connection, write_noise, source, status):
    """Not by dots, not by a link, not from the machine's own network."""
    outside = write_noise("outside.wav")
    archive = outside.parent / "archive"
    (archive / "link.wav").symlink_to(outside)
    answer = client.post("/jobs", json={"source": source.format(archive=archive)})
    assert answer.status_code == status, answer.text
    assert not list(connection.scan_iter("rq:job:*"))


def test_without_roots_no_path_is_taken(ask, write_noise):
    """Over HTTP nobody reads what nobody has named."""
    answer = ask.post("/jobs", json={"source": str(write_noise())})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "source_forbidden")


def test_options_that_are_none(client, tmp_path, write_noise):
    """Refused by name, before anything is enqueued."""
    path = str(write_noise("archive/a.wav"))
    for options in ({"colour": "red"}, {"language": "klingon"}, {"best_of": 99}):
        answer = client.post("/jobs", json={"source": path, "options": options})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_options")
    assert client.post("/jobs", json={"source": path, "audio": {"vad": "on"}}).status_code == 400


def test_what_is_unknown_is_404(client):
    """In OpenAI's form."""
    for path in (
        "/jobs/none",
        "/jobs/none/result",
        "/batches/none",
        "/jobs?batch=none",
        "/v1/batches/none",
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found"), path
