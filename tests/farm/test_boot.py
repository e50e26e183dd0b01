"""A machine that goes down takes its recordings with it; none of them is to blame."""

import subprocess

import pytest

from tests.stage.fake_engine import job
from tests.stage.farm import wait_until
from worker.farm.boot import boot_id
from worker.farm.scripts import FarmScripts

MODELS = [("fake", None)]


def died(farm, boot):
    """Claim the queued job on a machine's start, and never answer again."""
    scripts = FarmScripts(farm.connection, farm.settings, f"dead-{boot}", MODELS, boot)
    (claim,) = wait_until(lambda: scripts.claim(1, suspects=1))
    return claim


def test_a_death_counts_once_its_machine_is_heard_of_again(farm):
    """Two machines restarted, then one process died while its machine stayed up."""
    farm.configure(lease_s=0.4, heartbeat_s=0.1)
    farm.submit(job("a"))
    up = FarmScripts(farm.connection, farm.settings, "peer", MODELS, "up")
    seen = []
    for boot in ("first", "second", "up", "up"):
        died(farm, boot)
        (taken,) = wait_until(up.reap)
        seen.append((taken.fields["deaths"], taken.fields["excused"]))
        farm.connection.hdel(f"rq:job:{taken.job_id}", "lost_worker", "fence")
        farm.connection.hset(f"rq:job:{taken.job_id}", "status", "queued")
        farm.connection.lpush("rq:queue:default", taken.job_id)
    assert seen == [(b"1", b"1"), (b"2", b"2"), (b"3", b"2"), (b"4", b"2")]
    # The first machine's worker had died alone, and was slow to start again.
    FarmScripts(farm.connection, farm.settings, "again", MODELS, "first").heartbeat([], {}, 60)
    died(farm, "up")
    (taken,) = wait_until(up.reap)
    assert (taken.fields["deaths"], taken.fields["excused"]) == (b"5", b"1")
    assert farm.connection.ttl("scribefarm:boots") > 0


def test_the_machines_start_has_one_name_for_all_its_processes():
    """The kernel's; on a Mac sysctl says it."""
    assert boot_id("linux") == boot_id("linux")
    asked = []

    def sysctl(command):
        asked.append(command)
        return "6F1C1B3A-0000-4C1D-9F00-0123456789AB\n"

    assert boot_id("darwin", sysctl) == "6F1C1B3A-0000-4C1D-9F00-0123456789AB"
    assert asked == [("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")]


@pytest.mark.parametrize("answer", ["", "two words", OSError(), subprocess.TimeoutExpired("x", 1)])
def test_without_a_name_of_the_systems_a_process_has_its_own(answer):
    """Nobody confirms it, so its deaths are excused."""

    def sysctl(_command):
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert boot_id("darwin", sysctl) != boot_id("darwin", sysctl)
