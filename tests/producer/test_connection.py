"""The connection: what is ridden out, what is a typed error, and the server's clock."""

import errno
import socket
import sys
import time

import pytest
from pydantic import SecretStr

from producer import embedded
from producer.connection import connect, server_time_s
from producer.errors import InvalidSettings, LocalNetworkDenied, ServerUnreachable
from producer.events import read_events
from producer.keys import EVENTS_KEY
from producer.queue import job_state, submit
from producer.settings import RedisSettings, load_settings
from producer.webhooks import Endpoint, Relay
from tests.producer.known_jobs import job


def test_commands_ride_out_a_server_that_restarts(embedded_dir, wait_until):
    """A command in flight does not fail because the server was away for a moment."""
    settings = load_settings(redis={"embedded_dir": embedded_dir})
    with connect(settings) as client:
        submit(client, settings, [job()])
        embedded.stop(settings)
        embedded.ensure_running(settings)
        assert submit(client, settings, [job()])[0].state == "queued"


def test_a_server_that_goes_away_gives_a_typed_error(embedded_dir):
    """The foreign exception is translated."""
    settings = load_settings(redis={"embedded_dir": embedded_dir})
    with connect(settings) as client:
        embedded.stop(settings)
        with pytest.raises(ServerUnreachable, match=str(embedded_dir)):
            job_state(client, "x")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"url": "http://farm"}, "redis.url"),
        ({"url": "redis://:hush@farm:port"}, "redis.url"),
        ({"url": "redis://farm", "ca_certs": "/x"}, "redis.ca_certs.*rediss"),
        ({"url": "rediss://farm", "ca_certs": "/nowhere"}, "redis.ca_certs.*existing file"),
    ],
)
def test_a_wrong_redis_section_is_an_error_of_settings(section, said):
    """Found before anything is sent, and without the password."""
    with pytest.raises(InvalidSettings, match=said) as caught:
        connect(load_settings(redis=section))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://farm:99999", "redis://:hush@farm:port"])
def test_a_wrong_port_is_said_to_be_the_fault(url):
    """Its scheme is right."""
    with pytest.raises(InvalidSettings, match="port 1 to 65535"):
        connect(load_settings(redis={"url": url}))


def test_a_wrong_password_is_no_absent_server(embedded_dir):
    """Whoever reads that no server answers looks for the server."""
    settings = load_settings(redis={"embedded_dir": embedded_dir})
    socket_path = embedded.ensure_running(settings)
    section = RedisSettings(url=SecretStr(f"unix://nobody:hush@{socket_path}"))
    with pytest.raises(ServerUnreachable, match="must know the user and password") as caught:
        connect(settings.model_copy(update={"redis": section}))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", ["a%41b", "a#b?c", "Library/Application Support", "\u00e4"])
def test_the_embedded_servers_folder_may_have_any_name(embedded_dir, name):
    """A socket's path stands in an address, where % and # mean something."""
    settings = load_settings(redis={"embedded_dir": embedded_dir / name})
    try:
        with connect(settings) as client:
            assert client.ping()
    finally:
        embedded.stop(settings)


def test_the_servers_clock_is_read_in_seconds_since_the_epoch(connection):
    """Server and test run on one machine, so they agree."""
    assert abs(server_time_s(connection) - time.time()) < 5


@pytest.mark.parametrize(
    ("platform", "number", "error"),
    [
        ("darwin", errno.EHOSTUNREACH, LocalNetworkDenied),
        ("darwin", errno.ECONNREFUSED, ServerUnreachable),
        ("linux", errno.EHOSTUNREACH, ServerUnreachable),
    ],
)
def test_on_a_mac_no_route_to_a_host_is_its_privacy_setting(monkeypatch, platform, number, error):
    """It says errno 65 at once to an agent, for every machine of its own network."""

    def refuse(*_arguments):
        raise OSError(number, "No route to host")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(sys, "platform", platform)
    settings = load_settings(redis={"url": "redis://127.0.0.1:6379"})
    with pytest.raises(error, match=r"127\.0\.0\.1:6379") as caught:
        connect(settings)
    assert caught.value.exit_code == 3


def test_an_address_that_asks_for_resp3_works_like_any_other(settings, connection):
    """Events are read in the form of RESP2 whatever the address says."""
    connection.xadd(EVENTS_KEY, {"job_id": "a", "status": "succeeded"})
    socket = embedded.status(settings).socket
    section = RedisSettings(url=SecretStr(f"unix://{socket}?protocol=3"))
    with connect(settings.model_copy(update={"redis": section})) as client:
        assert [event.job_id for event in read_events(client)] == ["a"]
        endpoint = Endpoint("http://localhost/", SecretStr("whsec_" + "A" * 40))
        assert list(Relay(client, endpoint).deliveries(follow=False)) == []
