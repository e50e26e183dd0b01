"""What the page may change: nothing, unless it is let."""

import pytest

from producer.batches.counts import read_counts
from producer.fleet import is_suspended
from producer.queue import job_state
from tests.stage.shown_farm import answers, archive, submit
from tests.stage.told_engine import work_off

OWN = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8723"}


@pytest.fixture
def failed(farm, tmp_path):
    """Return job ids of a batch of which some failed."""
    farm.configure(queue={"max_attempts": 1})
    made = archive(tmp_path / "archive", num_files=2)
    jobs = submit(farm, made, "interviews")
    work_off(farm, answers(made))
    return jobs


@pytest.mark.parametrize("action", ["retry", "cancel", "pause", "resume", "drain", "nonsense"])
def test_by_default_it_is_read_only(farm, failed, open_page, action):
    """No button is there, and no request is heard."""
    page = open_page(farm)
    asked = {"batch": "interviews", "worker": "thread"}
    assert page.client.post(f"/actions/{action}", data=asked, headers=OWN).status_code == 403
    assert "/actions/" not in page.html("/") + page.html("/batch", name="interviews")
    assert not is_suspended(farm.connection)
    assert read_counts(farm.connection, "interviews").failed == 4


def test_failed_recordings_are_retried_by_code(farm, failed, open_page):
    """Those of one code wait again; the page is led back to, and says how many."""
    page = open_page(farm, allow_actions=True)
    page.index("interviews")
    asked = {
        "batch": "interviews",
        "code": "corrupt_audio",
        "next": "/batch?name=interviews&said=x",
    }
    done = page.client.post("/actions/retry", data=asked, headers=OWN)
    assert done.status_code == 303
    assert done.headers["location"] == "/batch?name=interviews&said=retried&n=2"
    assert "2 recordings wait again." in page.get(done.headers["location"]).text
    counts = read_counts(farm.connection, "interviews")
    assert (counts.queued, counts.failed) == (2, 2)
    text = page.html("/batch", name="interviews", state="open")
    assert "damp.wav" in text
    assert "torn.wav" in text


def test_without_an_index_the_batch_itself_is_asked(farm, failed, open_page):
    """Nobody has looked at it yet."""
    page = open_page(farm, allow_actions=True)
    done = page.client.post("/actions/retry", data={"batch": "interviews"}, headers=OWN)
    assert done.headers["location"] == "/?said=retried&n=4"


def test_one_recording_is_retried_and_cancelled(farm, failed, open_page):
    """By its own page."""
    page = open_page(farm, allow_actions=True)
    job_id = failed["letters/list.doc"]
    page.client.post("/actions/retry", data={"job": job_id}, headers=OWN)
    assert job_state(farm.connection, job_id) == "queued"
    page.client.post("/actions/cancel", data={"job": job_id}, headers=OWN)
    assert job_state(farm.connection, job_id) == "canceled"


def test_the_farm_is_paused_and_goes_on(farm, open_page):
    """For hours, or until somebody says so."""
    page = open_page(farm, allow_actions=True)
    page.client.post("/actions/pause", data={"hours": "8"}, headers=OWN)
    assert 0 < farm.connection.ttl("rq:suspended") <= 8 * 3600
    assert "Paused: no worker starts another recording." in page.html("/")
    page.client.post("/actions/resume", headers=OWN)
    assert not is_suspended(farm.connection)
    for hours in ("-1", "0", "169", "1e3", "\uff19"):
        answer = page.client.post("/actions/pause", data={"hours": hours}, headers=OWN)
        assert answer.status_code == 400, hours
    assert not is_suspended(farm.connection)


def test_a_worker_is_drained(farm, open_page):
    """Only one that is alive; who asks otherwise is told."""
    page = open_page(farm, allow_actions=True)
    assert page.client.post("/actions/drain", data={"worker": "x"}, headers=OWN).status_code == 503


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"&".join(b"a=b" for _ in range(50)), "application/x-www-form-urlencoded", 400),
        (b"hours=" + b"1" * 100_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"hours=8", "text/plain", 415),
    ],
)
def test_a_form_is_short_and_a_form(farm, open_page, body, kind, status):
    """Sizes are bounded before anything is done; what a page elsewhere could send is none."""
    page = open_page(farm, allow_actions=True)
    headers = {**OWN, "Content-Type": kind}
    answer = page.client.post("/actions/pause", content=iter([body]), headers=headers)
    assert answer.status_code == status
    assert not is_suspended(farm.connection)
