"""A worker's own pages: alive, ready, its metrics; and nothing of them stops its work."""

import socket
from contextlib import closing

import pytest

from producer.errors import InvalidSettings
from producer.pausing import pause_worker
from producer.settings import WorkerSettings, load_settings
from tests.monitoring.test_exporter import get, samples
from tests.stage.fake_engine import job
from tests.stage.farm import wait_until
from worker.farm.health import Health
from worker.status_pages import check_packages, status_pages

WELL = {
    "loop_age_s": 0.1,
    "is_registered": True,
    "is_draining": False,
    "is_blocked": False,
    "is_asleep": False,
    "is_paused": False,
    "has_server": True,
}


def test_a_worker_says_how_it_is(farm):
    """Ready until it is paused; a drained one has ended."""
    worker = farm.start()
    with status_pages(worker.worker, "0") as server:
        port = server.address.port
        wait_until(lambda: get(port, "/readyz")[0] == 200)
        assert get(port, "/healthz") == (200, b"ok\n")
        page = samples(get(port, "/metrics")[1])
        assert page["scribefarm_worker_up{worker=thread}"] == 1
        assert page["scribefarm_worker_capacity{worker=thread}"] == 8
        pause_worker(farm.connection, farm.settings, "thread")
        wait_until(lambda: get(port, "/readyz") == (503, b"paused\n"))
        assert get(port, "/healthz")[0] == 200
        worker.worker.drain()
        worker.wait()
        assert "draining" in get(port, "/readyz")[1].decode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loop_age_s": 61.0}, "the loop hangs"),
        ({"is_registered": False}, "starting"),
        ({"is_blocked": True}, "reading hangs"),
        ({"is_asleep": True}, "asleep (active hours)"),
        ({"has_server": False}, "the server does not answer"),
    ],
)
def test_why_a_worker_is_not_ready(change, reason):
    """Through an outage of the server it lives on."""
    health = Health(**(WELL | change))
    assert health.why_not_ready == reason
    assert health.is_alive == ("loop_age_s" not in change)
    assert Health(**WELL).why_not_ready == ""


def test_an_address_that_is_taken_costs_the_pages_and_not_the_work(farm):
    """As while the worker before it still drains."""
    worker = farm.start()
    taken = socket.create_server(("127.0.0.1", 0))
    with closing(taken), status_pages(worker.worker, str(taken.getsockname()[1])) as server:
        assert server is None
        (job_id,) = farm.submit(job("a"))
        assert farm.result(job_id).status == "succeeded"


def test_a_monitor_that_says_nothing_or_nonsense_costs_nothing(farm):
    """Half a request, many at once, a page that fails."""
    worker = farm.start()
    with status_pages(worker.worker, "0") as server:
        port = server.address.port
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        silent[0].sendall(b"\x00\xff" * 1000 + b"\r\n\r\n")
        (job_id,) = farm.submit(job("a"))
        assert farm.result(job_id).status == "succeeded"
        for each in silent:
            each.close()
        wait_until(lambda: answers(port))


def answers(port):
    """Return whether the page comes; a connection may still be hung up on."""
    try:
        return get(port, "/healthz")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("address", ["nowhere", "1:2:3", "99999"])
def test_a_wrong_address_is_a_wrong_setting(address):
    """Refused where settings are read; without the package that writes metrics too."""
    with pytest.raises(InvalidSettings, match="metrics_listen"):
        load_settings(worker={"metrics_listen": address})
    assert WorkerSettings(metrics_listen="9741").metrics_listen == "9741"


def test_without_the_package_the_worker_does_not_start(monkeypatch):
    """Before a model is loaded, with the way to install it."""
    monkeypatch.setattr("worker.status_pages.find_spec", lambda name: None)
    check_packages(None)
    with pytest.raises(InvalidSettings, match="prometheus-client"):
        check_packages("9741")
