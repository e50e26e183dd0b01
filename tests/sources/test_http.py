"""Recordings from web servers that stall, cut, lie, redirect, and send what is no recording."""

import errno
import io
import os
import subprocess
import sys
import time

import pytest

from producer.errors import (
    DiskFull,
    OutOfRange,
    SourceChanged,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from producer.source import SourceVersion
from tests.stage.farm import free_port
from tests.stage.web import (
    drip,
    drip_headers,
    endless,
    page,
    redirect,
    silent,
    stall_after,
    status,
    whole,
)
from worker.sources import fetch as fetching
from worker.sources.http import MAX_RESUMES

AUDIO = bytes(range(256)) * 1000


def test_a_recording_is_fetched_whole(web, fetch):
    """Its bytes, through a file that has no name."""
    web.routes["/a.wav"] = whole(AUDIO)
    assert fetch(web.url("/a.wav")) == AUDIO


def test_what_is_cut_is_resumed_where_it_broke_off(web, fetch):
    """Only the rest is asked for, and only of the version that was begun."""
    web.routes["/a.wav"] = whole(AUDIO, cuts=(1000, 50_000, 0))
    assert fetch(web.url("/a.wav")) == AUDIO
    asked = [(headers.get("range"), headers.get("if-range")) for _, _, headers in _lowered(web)]
    assert asked == [
        (None, None),
        ("bytes=1000-", '"1"'),
        ("bytes=51000-", '"1"'),
        ("bytes=51000-", '"1"'),
    ]


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_what_has_no_strong_etag_is_resumed_by_its_time(web, fetch, etag):
    """HTTP asks for that: a weak ETag does not promise the same bytes."""
    when = "Wed, 21 Oct 2015 07:28:00 GMT"
    web.routes["/a.wav"] = whole(AUDIO, etag=etag, modified=when, cuts=(1000,))
    assert fetch(web.url("/a.wav")) == AUDIO
    assert _lowered(web)[1][2]["if-range"] == when


@pytest.mark.parametrize("kind", [{"etag": None}, {"ranges": False}])
def test_what_cannot_be_resumed_is_begun_anew(web, fetch, kind):
    """A server without validators, and one that gives no parts."""
    web.routes["/a.wav"] = whole(AUDIO, cuts=(100_000, 200_000), **kind)
    assert fetch(web.url("/a.wav")) == AUDIO


def test_a_recording_that_changes_between_two_parts_is_never_mixed(web, fetch):
    """The server gives the new one whole; it is taken from its beginning."""
    web.routes["/a.wav"] = _then(whole(AUDIO, cuts=(1000,)), whole(AUDIO[::-1], etag='"2"'))
    assert fetch(web.url("/a.wav")) == AUDIO[::-1]


def test_a_server_that_promises_more_than_it_has_is_given_up(web, fetch):
    """After as many tries as there are; the farm tries again later."""

    def lie(handler):
        handler.begin(200, {"Content-Length": len(AUDIO) + 1, "ETag": '"1"'})
        handler.give(AUDIO)
        handler.cut()

    web.routes["/a.wav"] = lie
    with pytest.raises(SourceUnreachable, match="broke off 6 times"):
        fetch(web.url("/a.wav"))
    assert len(web.seen) == 1 + MAX_RESUMES


@pytest.mark.parametrize("route", [stall_after(AUDIO, 5000), silent, drip_headers])
def test_a_server_that_stalls_is_given_up_in_bounded_time(web, fetch, route):
    """In the middle, before its answer, and with headers that never end."""
    web.routes["/a.wav"] = route
    with pytest.raises(SourceUnreachable):
        fetch(web.url("/a.wav"), read_timeout_s=0.2)


def test_a_server_that_drips_is_given_up_when_the_whole_takes_too_long(web, fetch):
    """No silence is long enough to end it."""
    web.routes["/a.wav"] = drip(AUDIO)
    with pytest.raises(SourceUnreachable, match=r"audio\.download_timeout_s"):
        fetch(web.url("/a.wav"), download_timeout_s=0.1)


def test_a_server_that_drips_keeps_no_reading_thread_busy(web, fetch):
    """Each byte is a sign of life; together they are too few."""
    web.routes["/a.wav"] = drip(AUDIO)
    with pytest.raises(SourceUnreachable, match="1000 bytes a second"):
        fetch(web.url("/a.wav"), read_timeout_s=1.0)


def test_a_server_that_sends_without_end_is_given_up_at_the_cap(web, fetch):
    """Nothing of it stays on the disk."""
    web.routes["/a.mp3"] = endless
    with pytest.raises(OutOfRange, match=r"at most 200000 bytes"):
        fetch(web.url("/a.mp3"), max_download_bytes=200_000)


def test_what_says_that_it_is_too_large_is_not_begun(web, fetch):
    """The header is enough."""
    web.routes["/a.wav"] = stall_after(AUDIO, 0)
    with pytest.raises(OutOfRange) as refused:
        fetch(web.url("/a.wav"), max_download_bytes=len(AUDIO) - 1)
    assert refused.value.value == len(AUDIO)


def test_a_page_is_no_recording(web, fetch):
    """What portals send with status 200."""
    web.routes["/a.wav"] = page
    with pytest.raises(UnsupportedFormat, match="text/html"):
        fetch(web.url("/a.wav"))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (404, SourceNotFound),
        (410, SourceNotFound),
        (401, SourceForbidden),
        (403, SourceForbidden),
        (429, SourceUnreachable),
        (503, SourceUnreachable),
    ],
)
def test_a_status_becomes_an_error_of_ours(web, fetch, code, error):
    """Only what may pass is tried again by the farm."""
    web.routes["/a.wav"] = status(code)
    with pytest.raises(error) as refused:
        fetch(web.url("/a.wav"))
    assert refused.value.value == code


def test_nobody_listens(fetch):
    """The port is closed."""
    with pytest.raises(SourceUnreachable, match="refused"):
        fetch(f"http://127.0.0.1:{free_port()}/a.wav")


def test_another_version_than_was_submitted_is_refused(web, fetch):
    """As for a file whose hash is another: submitting it again is new work."""
    web.routes["/a.wav"] = whole(AUDIO, etag='"2"')
    with pytest.raises(SourceChanged) as refused:
        fetch(web.url("/a.wav"), version=SourceVersion(etag='"1"', size_bytes=len(AUDIO)))
    assert refused.value.value == '"2"'


def test_a_full_disk_is_said_to_be_one(web, fetch, monkeypatch):
    """What was written goes, and the server is not to blame."""

    class FullDisk(io.FileIO):
        def write(self, piece):
            if self.tell() + len(piece) > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(piece)

    web.routes["/a.wav"] = whole(AUDIO)
    path = fetch.spool.parent / "full"
    monkeypatch.setattr(fetching.tempfile, "TemporaryFile", lambda **_: FullDisk(path, "w+"))
    with pytest.raises(DiskFull, match=r"audio\.spool_dir"):
        fetch(web.url("/a.wav"))


def test_a_job_that_nobody_wants_any_more_ends_its_download(web, fetch):
    """What the sign of life raises passes."""
    web.routes["/a.mp3"] = endless

    def beat():
        if len(web.seen) > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(web.url("/a.mp3"), beat=beat)


def test_secrets_of_an_address_are_in_no_error(web, fetch):
    """Neither its user nor its query."""
    web.routes["/a.wav"] = status(403)
    with pytest.raises(SourceForbidden) as refused:
        fetch(web.url("/a.wav?X-Amz-Signature=hush", user="me:hush"))
    assert "hush" not in repr(refused.value)
    assert refused.value.__cause__ is None


def test_a_redirect_is_followed_without_the_password(web, fetch):
    """It is for the first host alone."""
    other = type(web)()
    try:
        other.routes["/b.wav"] = whole(AUDIO)
        web.routes["/a.wav"] = redirect(other.url("/b.wav"))
        assert fetch(web.url("/a.wav", user="me:hush")) == AUDIO
        assert _lowered(web)[0][2]["authorization"] == "Basic bWU6aHVzaA=="
        assert "authorization" not in _lowered(other)[0][2]
    finally:
        other.stop()


@pytest.mark.slow
def test_a_worker_that_is_killed_in_the_middle_leaves_nothing(web, fetch):
    """The file has no name; what an older system left under one is swept at the next start."""
    web.routes["/a.wav"] = stall_after(AUDIO, 5000)
    code = (
        "import sys\nfrom producer.job import Job\nfrom producer.settings import Settings\n"
        "from worker.sources.fetch import Fetch\n"
        "audio = {'spool_dir': sys.argv[2], 'allow_private_hosts': ['127.0.0.1']}\n"
        "Fetch(Settings(audio=audio))(Job(source=sys.argv[1]), lambda: print('.', flush=True))\n"
    )
    command = [sys.executable, "-c", code, web.url("/a.wav"), str(fetch.spool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout.readline()
        worker.kill()
    assert list(fetch.spool.iterdir()) == []
    left = fetch.spool / f"{fetching.SPOOL_PREFIX}abc"
    foreign = fetch.spool / "another.wav"
    for path in (left, foreign):
        path.touch()
        os.utime(path, (time.time() - 3600,) * 2)
    fetching.sweep(fetch.spool)
    assert list(fetch.spool.iterdir()) == [foreign]


def _lowered(web):
    return [
        (method, path, {name.lower(): value for name, value in headers.items()})
        for method, path, headers in web.seen
    ]


def _then(first, second):
    """Answer once with one route, and from then on with another."""
    routes = [first, second]

    def route(handler):
        chosen = routes.pop(0) if len(routes) > 1 else routes[0]
        chosen(handler)

    return route
