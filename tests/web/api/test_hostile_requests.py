"""Requests that want too much, lie, or break off: an answer in OpenAI's form, and nothing is kept."""

import socket
import time

import httpx
import pytest

from producer.keys import http_key
from producer.settings import load_settings
from producer.web.api.form import harmless_name
from tests.stage.farm import Server, wait_until
from tests.stage.http_front import HttpFront

URL = "/v1/audio/transcriptions"
TOKEN = "a-token-of-24-characters"


def error_of(answer, status):
    """Return what an answer says is wrong; it has OpenAI's form."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    return error


def is_empty(connection):
    """Return whether nothing was enqueued or kept."""
    kinds = ("rq:job:*", "scribefarm:upload:*", "scribefarm:http:*")
    return not [key for kind in kinds for key in connection.scan_iter(kind)]


def form(boundary, *parts, end=True):
    """Return a form's body of parts as they are."""
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return body + (b"--" + boundary + b"--\r\n" if end else b"")


def part(headers, data):
    return headers.encode("latin-1") + b"\r\n\r\n" + data


FILE = part('Content-Disposition: form-data; name="file"; filename="a.wav"', b"RIFF")
MODEL = part('Content-Disposition: form-data; name="model"', b"whisper-1")


def post(ask, *parts, end=True, boundary=b"b"):
    headers = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
    return ask.post(URL, content=form(boundary, *parts, end=end), headers=headers)


@pytest.mark.parametrize(
    ("parts", "status", "param"),
    [
        ([MODEL], 400, "file"),
        ([FILE], 400, "model"),
        ([FILE, FILE, MODEL], 400, None),
        ([part('Content-Disposition: form-data; name="files"; filename="a"', b"x")], 400, None),
        ([part("Content-Disposition: form-data", b"x")], 400, None),
        ([part("X-Other: 1", b"x")], 400, None),
        ([part('Content-Disposition: form-data; name="file"; filename="a"', b""), MODEL], 400, "file"),
        ([part("X-Long: " + "a" * 5000, b"x"), FILE, MODEL], 400, None),
        ([part("\r\n".join(f"X-{n}: 1" for n in range(99)), b"x"), FILE, MODEL], 400, None),
        ([part('Content-Disposition: form-data; name="prompt"', b"a" * 70_000), FILE], 413, "prompt"),
        ([part('Content-Disposition: form-data; name="prompt"', b"\xff"), FILE], 400, None),
        ([*[part(f'Content-Disposition: form-data; name="f{n}"', b"") for n in range(70)]], 400, None),
        ([MODEL, part('Content-Disposition: form-data; name="model"', b"base"), FILE], 400, "model"),
        ([MODEL, part('Content-Disposition: form-data; name="colour"', b"red"), FILE], 400, "colour"),
        ([MODEL, part('Content-Disposition: form-data; name="stream"', b"true"), FILE], 400, "stream"),
        ([MODEL, part('Content-Disposition: form-data; name="temperature"', b"9"), FILE], 400, "temperature"),
        ([MODEL, part('Content-Disposition: form-data; name="temperature"', b"nan"), FILE], 400, "temperature"),
        ([MODEL, part('Content-Disposition: form-data; name="response_format"', b"pdf"), FILE], 400, "response_format"),
        ([MODEL, part('Content-Disposition: form-data; name="language"', b"klingon"), FILE], 400, "language"),
        ([MODEL, part('Content-Disposition: form-data; name="timestamp_granularities[]"', b"word"), FILE], 400, "timestamp_granularities"),
        ([part('Content-Disposition: form-data; name="model"', b"gpt-4o"), FILE], 404, "model"),
        ([part('Content-Disposition: form-data; name="model"', b"large-v4"), FILE], 404, "model"),
        ([MODEL, part('Content-Disposition: form-data; name="file"; filename="a.html"\r\nContent-Type: text/html', b"<b>")], 415, "file"),
    ],
)  # fmt: skip
def test_a_form_that_is_not_right_is_refused(ask, connection, parts, status, param):
    """By its field where it has one; nothing of it is kept."""
    error = error_of(post(ask, *parts), status)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert is_empty(connection)


def test_a_form_that_breaks_off_is_none(ask, connection):
    """A body that ends in the middle of its file, and one that is no form at all."""
    assert "breaks off" in error_of(post(ask, MODEL, FILE, end=False), 400)["message"]
    headers = {"content-type": "multipart/form-data; boundary=b"}
    error_of(ask.post(URL, content=b"nonsense" * 1000, headers=headers), 400)
    error_of(ask.post(URL, content=b"", headers=headers), 400)
    assert is_empty(connection)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "multipart/mixed"])
def test_another_kind_of_body_is_415(ask, kind):
    """Before anything of it is read."""
    answer = ask.post(URL, content=b"{}", headers={"content-type": kind})
    assert error_of(answer, 415)["code"] == "unsupported_format"
    error_of(
        ask.post("/v1/batches", content=b"{}", headers={"content-type": kind or "a/b"}),
        415 if kind != "application/json" else 400,
    )


def test_a_form_without_a_boundary_is_refused(ask):
    """And one whose boundary is longer than any may be."""
    for boundary in ("", "; boundary=", f"; boundary={'b' * 5000}"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        error_of(ask.post(URL, content=b"--\r\n", headers=headers), 400)


def test_more_than_the_limit_is_413_and_not_kept(start_front, connection, tmp_path):
    """Said of the header at once, and of a body without a length when it passes the limit."""
    spool = tmp_path / "spool"
    spool.mkdir()
    front = start_front(http={"spool_dir": str(spool), "max_upload_bytes": 100_000})
    large = b"\0" * 5_000_000
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        answer = ask.post(URL, files={"file": ("a.wav", large)}, data={"model": "whisper-1"})
        assert error_of(answer, 413)["code"] == "out_of_range"
        head = form(b"b", MODEL, end=False) + b"--b\r\n" + FILE[:-4]

        def drip():
            yield head
            for _ in range(50):
                yield b"\0" * 100_000

        headers = {"content-type": "multipart/form-data; boundary=b"}
        error_of(ask.post(URL, content=drip(), headers=headers), 413)
    assert list(spool.iterdir()) == []
    assert is_empty(connection)


def test_a_client_that_breaks_off_leaves_nothing(start_front, connection, tmp_path):
    """The file in hand goes with the connection."""
    spool = tmp_path / "spool"
    spool.mkdir()
    front = start_front(http={"spool_dir": str(spool)})
    with socket.create_connection(("127.0.0.1", front.port)) as raw:
        raw.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            + form(b"b", MODEL, end=False)
            + b"--b\r\n"
            + FILE
        )
        wait_until(lambda: list(spool.iterdir()))
    wait_until(lambda: not list(spool.iterdir()))
    assert is_empty(connection)


def test_a_client_that_falls_silent_is_given_up(start_front):
    """After audio.read_timeout_s."""
    front = start_front(audio={"read_timeout_s": 0.2})
    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as raw:
        raw.sendall(
            f"POST {URL} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n".encode()
        )
        begun = time.monotonic()
        assert b" 408 " in raw.recv(1000).splitlines()[0]
        assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\talk.wav", "talk.wav"),
        ("/", "audio"),
        ("..", "audio"),
        ("a\r\nX-Evil: 1.wav", "a__X-Evil: 1.wav"),
        ("a\0b\x1b[31m.wav", "a_b_[31m.wav"),
        ("\u202egnp.wav", "_gnp.wav"),
        ("a" * 999 + ".wav", "a" * 196 + ".wav"),
        ("\ud800.wav", "?.wav"),
    ],
)
def test_a_name_is_a_label(given, kept):
    """No part of it is a path, and it moves no terminal's cursor."""
    assert harmless_name(given) == kept


def test_a_name_with_a_path_becomes_no_path(start_front, connection, tmp_path):
    """In the spool folder lies the hash; what the name wanted to be is untouched."""
    spool = tmp_path / "spool"
    spool.mkdir()
    front = start_front(http={"spool_dir": str(spool)})
    name = "../../x/../evil.wav"
    with httpx.Client(base_url=front.url, timeout=30) as ask:
        answer = ask.post(
            URL,
            files={"file": (name, b"RIFF", "audio/wav")},
            data={"model": "whisper-1"},
            headers={"prefer": "respond-async"},
        )
    assert answer.status_code == 202
    [kept] = spool.iterdir()
    assert kept.suffix == ".wav"
    assert len(kept.stem) == 64
    assert not list(tmp_path.rglob("evil*"))


def test_what_a_name_says_is_never_a_page(ask, farm):
    """Whatever format is asked for: answers are JSON or plain text, and browsers do not guess."""
    farm.start()
    name = "<script>alert(1)</script>&.wav"
    made = form(
        b"b",
        part("Content-Disposition: form-data; name=model", b"whisper-1"),
        part(f'Content-Disposition: form-data; name="file"; filename="{name}"', b"RIFF"),
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = ask.post(URL, content=made, headers=headers)
    assert answer.headers["content-type"] == "application/json"
    job_id = next(farm.connection.scan_iter("scribefarm:result:*")).decode().rpartition(":")[2]
    for query in ("", "?format=html", "?format=vtt", "?format=<b>"):
        answer = ask.get(f"/jobs/{job_id}/result{query}")
        assert answer.headers["content-type"].partition(";")[0] in {
            "application/json",
            "text/plain",
        }
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_who_may_not_ask(start_front, connection):
    """No token, a wrong one, a forged Host, another site: before a byte of the body is taken."""
    front = start_front(token=TOKEN)
    url = f"{front.url}{URL}"
    files, data = {"file": ("a.wav", b"RIFF")}, {"model": "whisper-1"}
    own = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(timeout=30) as ask:
        assert ask.post(url, files=files, data=data).status_code == 401
        wrong = {"authorization": "Bearer a-token-of-24-character5"}
        assert ask.post(url, files=files, data=data, headers=wrong).status_code == 401
        for headers in ({"host": "evil.example"}, {"host": f"127.0.0.1.evil.example:{front.port}"}):
            assert ask.post(url, files=files, data=data, headers=own | headers).status_code == 421
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
        ):
            assert ask.post(url, files=files, data=data, headers=own | headers).status_code == 403
        other = own | {"origin": "https://evil.example"}
        assert ask.get(f"{front.url}/events", headers=other).status_code == 403
        for path in ("/jobs?batch=a", "/batches", "/events", "/v1/files", "/openapi.json"):
            error_of(ask.get(f"{front.url}{path}"), 401)
        assert ask.get(f"{front.url}/v1/models", headers=own).status_code == 200
    assert is_empty(connection)


def test_a_json_body_within_limits(ask):
    """Too long is 413, too deep or no JSON 400, an unknown key by its name."""
    headers = {"content-type": "application/json"}
    error_of(ask.post("/jobs", content=b"[" * 2_000_000, headers=headers), 413)
    error_of(ask.post("/jobs", content=b"[" * 100_000, headers=headers), 400)
    error_of(ask.post("/jobs", content=b"\xff", headers=headers), 400)
    assert error_of(ask.post("/jobs", json={"source": "a", "colour": 1}), 400)["param"] == "colour"
    assert error_of(ask.post("/v1/batches", json={}), 400)["param"] == "input_file_id"


def test_more_uploads_than_there_is_room_for_are_429(start_front, connection):
    """By bytes and by number; the same recording takes room once."""
    front = start_front(http={"max_stored_bytes": 1000})
    with httpx.Client(base_url=front.url, timeout=30) as ask:

        def send(data):
            return ask.post(
                "/v1/files", files={"file": ("a.wav", data)}, data={"purpose": "user_data"}
            )

        assert send(b"a" * 600).status_code == 200
        assert send(b"a" * 600).status_code == 200
        refused = send(b"b" * 600)
        assert error_of(refused, 429)["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "30"
        assert connection.zcard(http_key("room", "all")) == 1

        # Lines are kept once each time, until they are deleted.
        def send_lines():
            return ask.post("/v1/files", files={"file": b"{}" * 50}, data={"purpose": "batch"})

        kept = [send_lines() for _ in range(5)]
        assert [answer.status_code for answer in kept] == [200, 200, 200, 200, 429]
        assert ask.delete(f"/v1/files/{kept[0].json()['id']}").status_code == 200
        assert send_lines().status_code == 200


@pytest.mark.slow
def test_a_server_that_is_away_is_503(tmp_path, write_noise):
    """With a Retry-After, and as soon as it is back all goes on."""
    server = Server(tmp_path / "server")
    front = HttpFront(load_settings(redis={"url": server.url, "socket_timeout_s": 1.0}))
    try:
        with httpx.Client(base_url=front.url, timeout=60) as ask:
            assert ask.get("/v1/models").status_code == 200
            server.kill()
            files = {"file": ("a.wav", write_noise().read_bytes())}
            for answer in (
                ask.get("/v1/models"),
                ask.post(URL, files=files, data={"model": "whisper-1"}),
                ask.get("/v1/batches"),
                ask.get("/events"),
            ):
                assert error_of(answer, 503)["code"] == "server_unreachable"
                assert answer.headers["retry-after"]
            server.start()
            assert ask.get("/v1/models").status_code == 200
    finally:
        front.stop()
        server.stop()
