"""A Mac stays awake while its worker has work: with a stub for caffeinate, since this is no Mac."""

import os
import subprocess
import sys

import pytest

from tests.stage.farm import wait_until
from worker.farm import awake, farm_worker
from worker.farm.awake import IDLE_S, Awake


class Stub:
    """Starts processes that do nothing, and remembers them; `now` is the clock."""

    def __init__(self):
        self.commands, self.children, self.now = [], [], 0.0

    def start(self, command):
        self.commands.append(list(command))
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.children.append(child)
        return child

    def awake(self, platform="darwin"):
        return Awake(self.start, platform, lambda: self.now)

    @property
    def num_alive(self):
        return sum(child.poll() is None for child in self.children)


@pytest.fixture
def stub():
    """Return a stub whose processes end with the test."""
    stub = Stub()
    yield stub
    for child in stub.children:
        child.kill()
        child.communicate()


def test_with_work_the_assertion_is_held_once_and_ends_with_this_process(stub):
    """`-w` names the worker, so caffeinate goes when the worker is gone, however that was."""
    held = stub.awake()
    assert stub.commands == []
    for _ in range(3):
        held.note(has_work=True)
    assert stub.commands == [["/usr/bin/caffeinate", "-i", "-w", str(os.getpid())]]
    assert stub.num_alive == 1


def test_without_work_the_mac_may_sleep_after_a_while(stub):
    """Not between two recordings."""
    held = stub.awake()
    held.note(has_work=True)
    stub.now = IDLE_S - 1
    held.note(has_work=False)
    assert stub.num_alive == 1
    stub.now = IDLE_S + 1
    held.note(has_work=False)
    assert stub.num_alive == 0
    held.note(has_work=True)
    assert stub.num_alive == 1
    held.let_sleep()
    assert stub.num_alive == 0


def test_a_caffeinate_that_somebody_killed_is_started_again(stub):
    """The night is long."""
    held = stub.awake()
    held.note(has_work=True)
    stub.children[0].kill()
    stub.children[0].wait()
    held.note(has_work=True)
    assert (len(stub.commands), stub.num_alive) == (2, 1)


def test_elsewhere_nothing_is_started(stub):
    """On Linux the machine does not sleep under a service."""
    stub.awake("linux").note(has_work=True)
    assert stub.commands == []


def test_a_mac_without_caffeinate_works_all_the_same(capfd):
    """It may fall asleep, which the log says once."""

    def fail(_command):
        raise FileNotFoundError(2, "No such file")

    held = Awake(fail, "darwin")
    held.note(has_work=True)
    held.note(has_work=True)
    assert capfd.readouterr().out.count("may_fall_asleep") == 1


def test_the_child_is_started_apart_from_the_terminals_signals():
    """A Ctrl-C drains the worker, and the Mac stays awake for it."""
    child = awake._start([sys.executable, "-c", "import time; time.sleep(60)"])
    assert os.getsid(child.pid) == child.pid
    child.terminate()
    child.wait()


def test_a_worker_with_a_recording_holds_the_assertion_until_it_ends(farm, stub, monkeypatch):
    """From the claim on, and no longer than the worker lives."""
    from tests.stage.fake_engine import job

    monkeypatch.setattr(farm_worker, "Awake", stub.awake)
    worker = farm.start()
    assert stub.commands == []
    (job_id,) = farm.submit(job("a", windows=3))
    assert farm.result(job_id).status == "succeeded"
    wait_until(lambda: len(stub.commands) == 1)
    worker.stop()
    assert stub.num_alive == 0
