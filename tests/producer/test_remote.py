"""Which servers are asked for recordings, and what they say of them."""

import socket

import pytest

from producer.errors import SourceForbidden, SourceNotFound, SourceUnreachable
from producer.remote import MAX_REDIRECTS, ask, ask_version
from producer.remote_hosts import Access, is_public
from producer.source import SourceVersion
from tests.stage.web import LOOPBACK, redirect, status, whole

OPEN = Access(LOOPBACK, timeout_s=20.0)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
    ],
)
def test_an_address_of_no_public_network_is_private(address):
    """Also one that another form of address carries within."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "::ffff:8.8.8.8"])
def test_an_address_of_a_public_network_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "127.1", "2130706433", "0x7f.1", "169.254.169.254"]
)
def test_a_private_address_is_refused_before_anything_is_sent(web, host):
    """However it is written."""
    with pytest.raises((SourceForbidden, SourceUnreachable, SourceNotFound)):
        ask(f"http://{host}:{web.server_port}/a.wav", Access(timeout_s=20.0))
    assert web.seen == []


def test_a_redirect_to_a_private_address_is_refused(web, monkeypatch):
    """The first host may be asked; what it names may not."""
    web.routes["/a.wav"] = redirect("http://169.254.169.254/latest/meta-data")
    with pytest.raises(SourceForbidden, match=r"audio\.allow_private_hosts"):
        ask(web.url("/a.wav"), OPEN)
    assert len(web.seen) == 1


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "gopher://x/", "http://", "http://[", ""]
)
def test_a_redirect_to_what_is_no_address_is_refused(web, location):
    """Nothing else than http and https is ever opened; an empty one leads in circles."""
    web.routes["/a.wav"] = redirect(location)
    with pytest.raises((SourceNotFound, SourceForbidden)):
        ask(web.url("/a.wav"), OPEN)


def test_redirects_are_counted(web):
    """A circle ends."""
    web.routes["/a.wav"] = redirect("/a.wav")
    with pytest.raises(SourceForbidden, match=f"at most {MAX_REDIRECTS} redirects"):
        ask(web.url("/a.wav"), OPEN)
    assert len(web.seen) == 1 + MAX_REDIRECTS


def test_a_redirect_does_not_leave_https(monkeypatch):
    """What was asked for in secret is not given in the open."""
    asked = []

    def answer(target, *_, **__):
        asked.append(target.url)
        return type(
            "Moved",
            (),
            {"status": 302, "headers": {"location": "http://b.example/"}, "close": lambda _: None},
        )()

    monkeypatch.setattr("producer.remote._ask_once", answer)
    with pytest.raises(SourceForbidden, match="stay with https"):
        ask("https://a.example/", OPEN)
    assert asked == ["https://a.example/"]


def test_the_address_that_was_checked_is_the_one_that_is_asked(web, monkeypatch):
    """A name that resolves to something else the next time (DNS rebinding) gains nothing by it."""
    web.routes["/a.wav"] = whole(b"audio")
    answers, real = ["127.0.0.1", "10.9.9.9"], socket.getaddrinfo
    asked = []

    def resolve(host, port, *arguments, **options):
        if host == "rebind.example":
            asked.append(host)
            host = answers.pop(0)
        return real(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with ask(f"http://rebind.example:{web.server_port}/a.wav", OPEN) as answer:
        assert answer.read_some() == b"audio"
    assert asked == ["rebind.example"]
    assert web.seen[0][2]["host"] == f"rebind.example:{web.server_port}"


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch):
    """Which of them would be asked is not left to chance."""

    def resolve(*_, **__):
        return [(2, 1, 6, "", (address, 80)) for address in ("93.184.215.14", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceForbidden):
        ask("http://both.example/", Access())


def test_a_host_may_be_allowed_by_name(web):
    """As `nas.local` is."""
    web.routes["/a.wav"] = whole(b"audio")
    url = web.url("/a.wav").replace("127.0.0.1", "localhost")
    with ask(url, Access(("LocalHost",), 20.0)) as answer:
        assert answer.status == 200


def test_a_certificate_must_be_the_hosts(web, monkeypatch):
    """A server without TLS is none for https."""
    with pytest.raises(SourceUnreachable):
        ask(web.url("/a.wav").replace("http:", "https:"), OPEN)


def test_the_version_is_what_the_headers_say(web):
    """Nothing is read."""
    when = "Wed, 21 Oct 2015 07:28:00 GMT"
    web.routes["/a.wav"] = whole(b"audio", etag='"7"', modified=when)
    expected = SourceVersion(etag='"7"', modified=when, size_bytes=5)
    assert ask_version(web.url("/a.wav"), OPEN) == expected
    assert [method for method, *_ in web.seen] == ["HEAD"]


@pytest.mark.parametrize("code", [403, 405, 501])
def test_a_server_that_takes_no_head_is_asked_for_a_byte(web, code):
    """A signature may be for GET alone."""
    give, refuse = whole(b"audio"), status(code)
    web.routes["/a.wav"] = lambda handler: (refuse if handler.command == "HEAD" else give)(handler)
    assert ask_version(web.url("/a.wav"), OPEN) == SourceVersion(etag='"1"', size_bytes=5)


def test_a_version_without_etag_and_time_is_new_each_time(web):
    """The size alone says too little."""
    web.routes["/a.wav"] = whole(b"audio", etag=None)
    first, second = (ask_version(web.url("/a.wav"), OPEN) for _ in range(2))
    assert first.identity("http://a/") != second.identity("http://a/")
    assert not first.is_other_than(second)
