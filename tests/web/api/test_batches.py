"""Batches of lines: cancelled, expired, cut off in the middle; every line is answered once."""

import contextlib
import json
import time
from types import SimpleNamespace

import httpx
import pytest

from producer.batches.submission import read_submission
from producer.events import read_events
from producer.keys import batch_key, http_key
from producer.web.api import batch_reading, batch_turn
from producer.web.api.batch_lines import MAX_LINE_BYTES, KeptLine, Line, read_line, split_lines
from producer.web.api.batch_output import batches_of
from producer.web.api.records import FileRecord, Files
from tests.stage.farm import wait_until
from tests.stage.http_front import HttpFront

ENDPOINT = "/v1/audio/transcriptions"
ENDED = {"completed", "failed", "expired", "cancelled"}


def line(custom_id, file, **changes):
    body = {"model": "whisper-1", "file": str(file)}
    document = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(document | changes)


@pytest.fixture
def archive(write_noise, tmp_path):
    """Return paths of ten recordings."""
    return [write_noise(f"{number}.wav", seed=number) for number in range(10)]


@pytest.fixture
def roomy(start_front, tmp_path):
    """Return a front that may read the test's folder."""
    return start_front(audio={"roots": [str(tmp_path)]})


@pytest.fixture
def client(roomy):
    with httpx.Client(base_url=roomy.url, timeout=30) as made:
        yield made


@contextlib.contextmanager
def another_front(settings):
    """Give a client of a second process's front on the same farm."""
    front = HttpFront(settings)
    try:
        with httpx.Client(base_url=front.url, timeout=30) as ask:
            yield ask
    finally:
        front.stop()


def hand_in(client, lines, window="24h"):
    file = ("lines.jsonl", "\n".join(lines).encode())
    kept = client.post("/v1/files", files={"file": file}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": kept["id"], "endpoint": ENDPOINT, "completion_window": window}
    answer = client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def look(client, batch):
    return client.get(f"/v1/batches/{batch['id']}").json()


def end_of(client, batch, timeout_s=30):
    def ended():
        found = look(client, batch)
        return found if found["status"] in ENDED else None

    return wait_until(ended, timeout_s)


def answers_of(client, batch):
    answers = []
    for file_id in filter(None, (batch["output_file_id"], batch["error_file_id"])):
        content = client.get(f"/v1/files/{file_id}/content")
        assert content.headers["content-type"] == "application/jsonl"
        record = client.get(f"/v1/files/{file_id}").json()
        assert record["bytes"] == len(content.content)
        assert record["purpose"] == "batch_output"
        answers += [json.loads(text) for text in content.text.splitlines()]
    return {answer["line"]: answer for answer in answers}


def test_a_batch_is_a_batch_of_the_farm_too(client, farm, archive, connection):
    """Under the same name, with its lines by their custom_id."""
    batch = hand_in(client, [line(f"talk {n}", path) for n, path in enumerate(archive)])
    assert batch["status"] == "validating"
    wait_until(lambda: look(client, batch)["status"] == "in_progress")
    shown = client.get(f"/batches/{batch['id']}").json()
    assert (shown["batch"], shown["counts"]["total"]) == (batch["id"], 10)
    files = client.get("/jobs", params={"batch": batch["id"]}).json()["data"]
    assert {file["name"] for file in files} == {f"talk {n}" for n in range(10)}
    assert client.get("/batches").json()["data"][0]["batch"] == batch["id"]
    farm.start()
    ended = end_of(client, batch)
    assert (ended["status"], ended["error_file_id"]) == ("completed", None)
    assert ended["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    answers = answers_of(client, ended)
    assert list(answers) == list(range(1, 11))
    assert answers[3]["custom_id"] == "talk 2"
    assert answers[3]["response"]["body"]["text"].endswith("2.wav-2")


def test_a_batch_that_is_cancelled_answers_what_was_not_done(client, archive):
    """Each such line has batch_cancelled in the error file; it cannot be cancelled twice."""
    batch = hand_in(client, [line(f"{n}", path) for n, path in enumerate(archive)])
    wait_until(lambda: look(client, batch)["status"] == "in_progress")
    assert client.post(f"/v1/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    ended = end_of(client, batch)
    assert ended["status"] == "cancelled"
    codes = {answer["error"]["code"] for answer in answers_of(client, ended).values()}
    assert codes == {"batch_cancelled"}
    assert ended["request_counts"] == {"total": 10, "completed": 0, "failed": 10}
    assert client.post(f"/v1/batches/{batch['id']}/cancel").status_code == 400


def test_what_is_left_when_the_window_closes_expires(client, roomy, archive):
    """At the next look: the status says so, and each line that was not done."""
    batch = hand_in(client, [line(f"{n}", path) for n, path in enumerate(archive)])
    wait_until(lambda: look(client, batch)["status"] == "in_progress")
    shelf = batches_of(roomy.app.state.api)
    shelf.put(shelf.get(batch["id"]).model_copy(update={"expires_at": int(time.time()) - 1}))
    ended = end_of(client, batch)
    assert ended["status"] == "expired"
    codes = {answer["error"]["code"] for answer in answers_of(client, ended).values()}
    assert codes == {"batch_expired"}


def test_a_batch_cut_off_in_the_middle_goes_on_where_it_stood(
    client, roomy, farm, archive, monkeypatch
):
    """A process dies with its lease after the first page; another one enqueues the rest, once each."""
    monkeypatch.setattr(batch_reading, "PAGE", 3)
    monkeypatch.setattr(batch_turn, "LEASE_S", 1)
    keep = batch_reading._Reading._keep

    def die_after_a_page(self, kept):
        if self._turn.batch.num_lines == 3:
            raise SystemExit
        keep(self, kept)

    monkeypatch.setattr(batch_reading._Reading, "_keep", die_after_a_page)
    # A dead process gives back no lease.
    delete = roomy.connection.delete
    monkeypatch.setattr(roomy.connection, "delete", lambda *keys: 0)
    batch = hand_in(client, [line(f"{n}", path) for n, path in enumerate(archive)])
    wait_until(lambda: farm.connection.hlen(batch_key(batch["id"])) == 6)
    monkeypatch.setattr(roomy.connection, "delete", delete)
    monkeypatch.setattr(batch_reading._Reading, "_keep", keep)
    farm.start()
    with another_front(roomy.settings) as ask:
        ended = end_of(ask, batch)
        assert ended["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
        assert list(answers_of(ask, ended)) == list(range(1, 11))
    assert set(farm.commits().values()) == {1}


def test_a_batch_is_told_of_in_the_farms_own_words(client, farm, archive):
    """Its end is one event, and its report knows of the damaged lines."""
    batch = hand_in(client, [line("a", archive[0]), "nonsense", line("b", "/etc/passwd")])
    farm.start()
    end_of(client, batch)
    done = list(read_events(farm.connection, kinds={"batch_done"}))
    assert [(event.batch, event.num_succeeded) for event in done] == [(batch["id"], 1)]
    submission = read_submission(farm.connection, batch["id"])
    assert submission.verdicts == {"new": 1, "problem": 2}
    assert [(each.path, each.code) for each in submission.problems] == [
        ("line 2", "invalid_options"),
        ("b", "source_forbidden"),
    ]


def test_lines_wait_while_the_queue_is_full(start_front, farm, archive, tmp_path, monkeypatch):
    """The batch goes on where it stood when there is room, at the next look."""
    monkeypatch.setattr(batch_reading, "PAGE", 4)
    front = start_front(audio={"roots": [str(tmp_path)]}, queue={"max_queued": 5})
    with httpx.Client(base_url=front.url, timeout=30) as client:
        batch = hand_in(client, [line(f"{n}", path) for n, path in enumerate(archive)])
        wait_until(lambda: look(client, batch)["request_counts"]["total"] == 4)
        assert look(client, batch)["status"] == "validating"
        farm.start()
        assert end_of(client, batch)["request_counts"]["completed"] == 10


def test_no_line_that_is_sound_fails_the_batch(client):
    """With what is wrong with each."""
    ended = end_of(client, hand_in(client, ["nonsense", "[]", '{"custom_id": "a"}']))
    assert ended["status"] == "failed"
    assert [error["line"] for error in ended["errors"]["data"]] == [1, 2, 3]
    assert ended["request_counts"] == {"total": 3, "completed": 0, "failed": 3}
    empty = end_of(client, hand_in(client, ["", "  "]))
    assert (empty["status"], empty["errors"]["data"][0]["code"]) == ("failed", "invalid_options")


def test_more_lines_than_a_batch_may_have_fail_it(start_front, tmp_path, archive, connection):
    """Before one of them is enqueued."""
    front = start_front(audio={"roots": [str(tmp_path)]}, http={"max_batch_lines": 3})
    with httpx.Client(base_url=front.url, timeout=30) as client:
        batch = hand_in(client, [line(f"{n}", path) for n, path in enumerate(archive)])
        ended = end_of(client, batch)
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "out_of_range")
    assert not connection.exists(batch_key(batch["id"]))


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input_file_id": "file-unknown"}, 404, "input_file_id"),
        ({"endpoint": "/v1/chat/completions"}, 400, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"completion_window": "0h"}, 400, "completion_window"),
        ({"metadata": {"k": "v" * 600}}, 400, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, "metadata"),
    ],
)
def test_a_batch_that_cannot_be(client, change, status, param):
    """Refused by its field."""
    file = client.post("/v1/files", files={"file": b"{}"}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": file["id"], "endpoint": ENDPOINT, "completion_window": "24h"}
    answer = client.post("/v1/batches", json=asked | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


def test_files_within_limits(start_front):
    """Lines up to max_batch_bytes, purposes that there are, no recording given out."""
    front = start_front(http={"max_batch_bytes": 100, "max_files": 2})
    with httpx.Client(base_url=front.url, timeout=30) as client:

        def send(data, purpose):
            return client.post("/v1/files", files={"file": data}, data={"purpose": purpose})

        assert send(b"x" * 101, "batch").status_code == 413
        assert send(b"x", "fine-tune").json()["error"]["param"] == "purpose"
        kept = send(b"RIFF", "user_data").json()
        assert client.get(f"/v1/files/{kept['id']}/content").status_code == 400
        assert send(b"{}", "batch").status_code == 200
        assert send(b"[]", "batch").status_code == 429
        assert client.get("/v1/files", params={"after": "file-unknown"}).status_code == 400
        assert client.get("/v1/files", params={"limit": "0"}).status_code == 400


def test_a_line_is_read_alone():
    """What is wrong with it is told with its id, if that can be read."""
    sound = read_line(1, line("a", "/a.wav").encode(), ENDPOINT)
    assert isinstance(sound, Line)
    for text, custom_id in (
        (b"\xff", None),
        (b'{"a": ' * 100_000, None),
        (line("a\nb", "/a").encode(), None),
        (line("a", "/a", method="GET").encode(), None),
        (line("a", "/a", url="/v1/files").encode(), "a"),
        (line("a", "").encode(), "a"),
        (b"x" * (MAX_LINE_BYTES + 1), None),
    ):
        read = read_line(7, text, ENDPOINT)
        assert isinstance(read, KeptLine)
        assert (read.number, read.custom_id) == (7, custom_id)
        assert read.error["code"] == "invalid_options"


def test_lines_are_split_wherever_pieces_end():
    """And one without an end is kept no longer than it takes to see that."""
    text = b"one\r\ntwo\n\nthree"
    for size in range(1, len(text)):
        pieces = (text[start : start + size] for start in range(0, len(text), size))
        assert list(split_lines(pieces)) == [b"one", b"two", b"", b"three"]
    [long, after] = split_lines(iter([b"x" * 50_000] * 10 + [b"\nafter"]))
    assert MAX_LINE_BYTES < len(long) <= MAX_LINE_BYTES + 50_000
    assert after == b"after"


def test_expired_records_make_room(connection):
    """What the server has dropped is no longer counted."""
    files = Files(connection, "file", FileRecord, 2, 100)

    def record(number):
        return FileRecord(
            id=f"file-{number}",
            created_at=number,
            filename="a",
            num_bytes=1,
            purpose="batch",
            expires_at=9,
        )

    files.put_new(record(1), 100)
    files.put_new(record(2), 100)
    connection.delete(http_key("file", "file-1"))
    files.put_new(record(3), 100)
    assert [each.id for each in files.page(None, 10).records] == ["file-3", "file-2"]
    assert SimpleNamespace(**files.page("file-3", 1)._asdict()).records[0].id == "file-2"
