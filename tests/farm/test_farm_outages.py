"""The server goes away, freezes, or swallows replies; work in flight goes on and counts once."""

import json
import re
import time

import pytest

from producer.errors import ServerUnreachable
from tests.chaos.proxy import LossyProxy
from tests.stage.fake_engine import FakeEngine, expected_text, job
from tests.stage.farm import Farm, running_server, wait_until


@pytest.fixture
def server(tmp_path):
    """Return a server with an append-only file that the test may kill."""
    with running_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
def farm(server):
    """Return a farm on a server of its own; its workers give up a dead connection quickly."""
    farm = Farm(server.url)
    yield farm
    farm.stop()


def loses_reply_to(pattern, times):
    """Return a choice of the first `times` commands that match."""
    left = [times]

    def loses(command):
        if re.search(pattern, command, re.DOTALL) and left[0] > 0:
            left[0] -= 1
            return True
        return False

    return loses


@pytest.fixture
def lossy_farm(server):
    """Return a function that gives a farm whose workers lose replies to some commands."""
    made = []

    def make(pattern, times):
        proxy = LossyProxy(server.port, loses_reply_to(pattern, times))
        farm = Farm(server.url)
        farm.settings = Farm(proxy.url).settings
        made.extend((farm, proxy))
        return farm, proxy

    yield make
    for each in made[::2]:
        each.stop()
    for each in made[1::2]:
        each.close()


def test_work_in_flight_survives_a_server_that_is_killed_and_is_committed_afterwards(
    farm, server, tmp_path
):
    """Running recordings go on without the server; nothing is tried twice; the log says it once."""
    log = tmp_path / "log"
    farm.start_process(log=log)
    jobs = [job(f"o{number}", windows=8, window_s=0.1) for number in range(12)]
    job_ids = farm.submit(*jobs)
    wait_until(lambda: farm.state(job_ids[7]) == "started")
    server.kill()
    wait_until(lambda: "server_lost" in log.read_text())
    down = [json.loads(line) for line in log.read_text().splitlines()]
    server.start()
    results = [farm.result(job_id) for job_id in job_ids]
    assert [each.text for each in results] == [expected_text(each.source) for each in jobs]
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert all(farm.field(job_id, "attempts") is None for job_id in job_ids)
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
    assert (events.count("server_lost"), events.count("server_back")) == (1, 1)
    assert len(events) < len(down) + 20


@pytest.mark.slow
def test_an_outage_longer_than_a_lease_costs_no_attempt_even_with_peers(farm, server):
    """After an outage everybody renews before anybody reaps."""
    farm.configure(lease_s=1.0, heartbeat_s=0.2, reap_s=0.1)
    workers = [farm.start(capacity=2) for _ in range(2)]
    job_ids = farm.submit(*(job(f"o{number}", windows=40, window_s=0.1) for number in range(4)))
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    server.kill()
    wait_until(lambda: all(each.worker._outage.is_active for each in workers))
    longer = workers[0].worker._outage._since + 2.5
    wait_until(lambda: time.monotonic() > longer)
    server.start()
    results = [farm.result(job_id) for job_id in job_ids]
    assert {each.status for each in results} == {"succeeded"}
    assert all(len(each.engine.seen) == 2 for each in workers)
    assert farm.commits() == dict.fromkeys(job_ids, 1)


def test_a_frozen_server_is_waited_out(farm, server):
    """SIGSTOP of the server: commands time out, then all goes on."""
    engine = FakeEngine()
    redis = farm.settings.redis.model_copy(update={"socket_timeout_s": 0.5})
    farm.settings = farm.settings.model_copy(update={"redis": redis})
    worker = farm.start(engine)
    job_ids = farm.submit(*(job(f"f{number}", windows=10, window_s=0.1) for number in range(8)))
    wait_until(lambda: engine.in_flight == 8)
    server.freeze()
    wait_until(lambda: worker.worker._outage.is_active)
    wait_until(lambda: engine.in_flight == 0)
    server.thaw()
    assert {farm.result(job_id).status for job_id in job_ids} == {"succeeded"}
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert len(engine.seen) == 8


def test_a_claim_whose_reply_is_lost_is_adopted(lossy_farm):
    """The server says so with the next heartbeat; no lease has to run out, no try is spent."""
    farm, proxy = lossy_farm(rb'EVALSHA.*"reserve"', 2)
    engine = FakeEngine(capacity=4)
    job_ids = farm.submit(*(job(f"c{number}") for number in range(10)))
    farm.start(engine)
    assert {farm.result(job_id).status for job_id in job_ids} == {"succeeded"}
    assert proxy.num_lost == 2
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert len(engine.seen) == 10


def test_a_commit_whose_reply_is_lost_is_recognised_as_our_own(lossy_farm):
    """It is sent again, and the fence says that it was done."""
    farm, proxy = lossy_farm(rb"XADD.*EXEC", 5)
    engine = FakeEngine(capacity=4)
    job_ids = farm.submit(*(job(f"c{number}") for number in range(10)))
    farm.start(engine)
    assert {farm.result(job_id).status for job_id in job_ids} == {"succeeded"}
    wait_until(lambda: farm.leftovers() == [])
    assert proxy.num_lost == 5
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert len(engine.seen) == 10


def test_a_job_given_back_with_the_reply_lost_is_not_given_back_twice(lossy_farm):
    """A retry that was scheduled is found scheduled."""
    farm, proxy = lossy_farm(rb'EVALSHA.*"delay_s"', 1)
    farm.start()
    (job_id,) = farm.submit(job("away", error="source_unreachable"))
    result = farm.result(job_id)
    assert [attempt.code for attempt in result.attempts] == ["source_unreachable"] * 3
    assert proxy.num_lost == 1
    assert farm.commits() == {job_id: 1}


@pytest.mark.parametrize(
    ("setting", "constraint"),
    [
        ("min-replicas-to-write", "the server must take commands now"),
        ("maxmemory", "the server must have room"),
    ],
)
def test_a_server_that_takes_no_writes_costs_no_finished_text(farm, server, setting, constraint):
    """However long: nothing is dropped, decoded again, or said to have failed; submit says why."""
    engine = FakeEngine()
    worker = farm.start(engine)
    asked = job("a", windows=4, window_s=0.1)
    (job_id,) = farm.submit(asked)
    wait_until(lambda: farm.state(job_id) == "started")
    before = farm.connection.config_get(setting)[setting]
    server.client.config_set(setting, 1)
    wait_until(lambda: worker.worker._outage.is_active)
    wait_until(lambda: not engine.in_flight)
    with pytest.raises(ServerUnreachable, match=constraint):
        farm.submit(job("b"))
    server.client.config_set(setting, before)
    assert farm.result(job_id).text == expected_text(asked.source)
    assert farm.commits() == {job_id: 1}
    assert len(engine.seen) == 1
