"""The pauses between tries while the server is away."""

import pytest
import redis

from worker.farm import outage
from worker.farm.outage import Outage

GONE = redis.ConnectionError("Error 111 connecting to farm.example:6379. Connection refused.")


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose one number is the monotonic time."""
    now = [1000.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: now[0])
    return now


def pauses(server, clock, count):
    """Fail `count` times; return the seconds after which each next try was allowed."""
    waited = []
    for _ in range(count):
        server.record(GONE)
        failed_at = clock[0]
        while not server.may_retry:
            clock[0] += 0.25
        waited.append(clock[0] - failed_at)
    return waited


def test_pauses_double_up_to_the_limit(clock):
    """A server that comes back is found within seconds, one that does not is asked seldom."""
    assert pauses(Outage(), clock, 6) == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses(Outage(max_wait_s=1.0), clock, 3) == [0.5, 1.0, 1.0]


def test_an_outage_lasts_until_a_command_succeeds(clock):
    """Then the pauses begin anew, and only the first success ends it."""
    server = Outage()
    assert (server.is_active, server.may_retry, server.clear()) == (False, True, False)
    pauses(server, clock, 3)
    assert server.is_active
    assert server.clear()
    assert (server.is_active, server.may_retry, server.clear()) == (False, True, False)
    assert pauses(server, clock, 1) == [0.5]
