"""Addresses on the command line: submitted, transcribed, and shown without their secrets."""

import pytest

from tests.stage.web import page, whole

ALLOWED = {"SCRIBEFARM_AUDIO__ALLOW_PRIVATE_HOSTS": '["127.0.0.0/8"]'}


def test_an_address_is_submitted_and_shown_without_its_secrets(scribefarm, web):
    """Its id is printed, its batch has the name of the recording."""
    web.routes["/talks/a.wav"] = whole(b"audio")
    web.routes["/portal"] = page
    addresses = [
        web.url(f"{path}?token=hush", user="me:hush") for path in ("/talks/a.wav", "/portal")
    ]
    done = scribefarm("submit", *addresses, **ALLOWED)
    assert done.returncode == 1
    assert len(done.stdout.split()) == 1
    assert "batch a-" in done.stderr
    assert "error [unsupported_format]" in done.stderr
    assert "hush" not in done.stdout + done.stderr
    shown = scribefarm("submit", *addresses, "--json", "--dry-run", **ALLOWED)
    assert "hush" not in shown.stdout + shown.stderr
    assert '"path": "http://***@127.0.0.1' in shown.stdout


def test_a_private_address_is_refused_where_it_is_submitted(scribefarm, web):
    """A worker is not even asked."""
    done = scribefarm("submit", web.url("/a.wav"))
    assert done.returncode == 1
    assert "error [source_forbidden]" in done.stderr
    assert "audio.allow_private_hosts" in done.stderr
    assert web.seen == []


def test_an_address_is_transcribed(scribefarm, stand_in, web):
    """As a file is; a server that says no has its own line."""
    web.routes["/a.wav"] = whole(b"audio")
    done = scribefarm("transcribe", web.url("/a.wav"), web.url("/no.wav?key=hush"), **ALLOWED)
    assert "text of a.wav" in done.stdout
    assert "error [source_not_found] http://127.0.0.1" in done.stderr
    assert "hush" not in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
@pytest.mark.weights
def test_a_worker_that_is_started_fetches_it(scribefarm, web, demo_recording):
    """The real one, with the real model."""
    web.routes["/beckett.wav"] = whole(demo_recording.read_bytes())
    done = scribefarm("transcribe", web.url("/beckett.wav"), "--format", "txt", **ALLOWED)
    assert done.returncode == 0, done.stderr
    assert "Fail better." in done.stdout


@pytest.fixture
def demo_recording():
    from importlib.util import find_spec
    from pathlib import Path

    return Path(find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
