"""Workers that die, sleep or break: who takes over, and what it costs a recording."""

import signal
import time

import pytest

from producer.batches.actions import cancel_jobs
from producer.errors import DeviceLost, InvalidModel
from producer.queue import read_progress, read_result
from tests.stage.fake_engine import FakeEngine, expected_text, job
from tests.stage.farm import wait_until


def test_a_broken_engine_ends_the_worker_and_its_jobs_go_to_a_peer(farm):
    """An engine that takes no more work is an exit code for the supervisor, not an idle worker."""
    engine = FakeEngine()
    worker = farm.start(engine)
    (job_id,) = farm.submit(job("slow", windows=20, window_s=0.05))
    wait_until(lambda: engine.in_flight == 1)
    engine.break_down(InvalidModel("engine", "the device is gone"))
    assert worker.wait() == 1
    assert farm.state(job_id) == "queued"
    farm.start()
    assert farm.result(job_id).status == "succeeded"


def test_a_lost_device_ends_the_worker_with_a_code_that_starts_it_again(farm):
    """Its recordings are tried again by others, with no death against them."""
    engine = FakeEngine()
    worker = farm.start(engine)
    (job_id,) = farm.submit(job("slow", windows=20, window_s=0.05))
    wait_until(lambda: engine.in_flight == 1)
    engine.break_down(DeviceLost("device", "must finish what it was given", "GPU Timeout"))
    assert worker.wait() == 1
    assert (farm.field(job_id, "tries"), farm.field(job_id, "deaths")) == ("1", None)
    farm.start()
    assert farm.result(job_id).status == "succeeded"


@pytest.mark.slow
def test_a_dead_worker_is_noticed_and_its_recordings_are_resumed(farm):
    """kill -9: a peer takes over when the lease ends, past the checkpoint."""
    victim = farm.start_process()
    jobs = [job(f"k{n}", windows=60, window_s=0.05) for n in range(4)]
    job_ids = farm.submit(*jobs)
    wait_until(lambda: read_progress(farm.connection, job_ids).keys() == set(job_ids))
    engine = FakeEngine()
    farm.start(engine)
    victim.signal(signal.SIGKILL)
    results = [farm.result(job_id) for job_id in job_ids]
    assert [each.text for each in results] == [expected_text(each.source) for each in jobs]
    assert all(ticket.checkpoint.segments for ticket in engine.seen)
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert farm.leftovers() == []


@pytest.mark.slow
def test_a_sleeper_beyond_its_lease_is_fenced_off_and_lives_on(farm, tmp_path):
    """SIGSTOP, as when a Mac sleeps: a peer does the work, the sleeper's results do not count."""
    log = tmp_path / "log"
    sleeper = farm.start_process(log=log)
    job_ids = farm.submit(*(job(f"z{n}", windows=10, window_s=0.2) for n in range(4)))
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    sleeper.signal(signal.SIGSTOP)
    farm.start()
    results = [farm.result(job_id, 30) for job_id in job_ids]
    assert {each.worker.split("-")[0] for each in results} == {"thread"}
    sleeper.signal(signal.SIGCONT)
    wait_until(lambda: log.read_text().count("lease_lost") == 4)
    assert farm.commits() == dict.fromkeys(job_ids, 1)
    assert sleeper.process.poll() is None


@pytest.mark.slow
def test_a_recording_that_kills_its_worker_is_set_aside_and_its_neighbours_are_not(farm):
    """Suspects run one at a time, so two deaths tell the poison from who stood beside it."""
    farm.configure(slots=4)
    poison = job("poison", windows=5, crash_at=1, window_s=0.05)
    neighbours = [job(f"n{n}", windows=3, window_s=0.05) for n in range(8)]
    worker = farm.start_process()
    job_ids = farm.submit(*neighbours[:2], poison, *neighbours[2:])
    poison_id = job_ids.pop(2)
    supervised = [worker]

    def is_over():
        if supervised[-1].process.poll() is not None:
            supervised.append(farm.start_process())
        return read_result(farm.connection, poison_id)

    wait_until(is_over, 60)
    assert len(supervised) == 3
    result = farm.result(poison_id, 1)
    assert result.error.code == "poison"
    assert [attempt.code for attempt in result.attempts] == ["worker_lost"] * 2
    farm.start()
    assert {farm.result(job_id).status for job_id in job_ids} == {"succeeded"}


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("lease_s", "heartbeat_s", "reap_s", "limit_s"),
    [(15.0, 3.0, 5.0, 20.0), pytest.param(30.0, 5.0, 10.0, 40.0, id="defaults")],
)
def test_idle_peers_take_up_a_dead_workers_jobs_in_time(
    farm, lease_s, heartbeat_s, reap_s, limit_s
):
    """At most a lease and a look; the time is taken from the kill to the new claim."""
    farm.configure(lease_s=lease_s, heartbeat_s=heartbeat_s, reap_s=reap_s)
    victim = farm.start_process()
    job_ids = farm.submit(*(job(f"k{n}", windows=10_000, window_s=0.05) for n in range(4)))
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    for _ in range(2):
        farm.start(FakeEngine())
    fences = {job_id: farm.field(job_id, "fence") for job_id in job_ids}
    victim.signal(signal.SIGKILL)
    killed = time.monotonic()

    def all_started_again():
        return all(
            farm.state(job_id) == "started" and (farm.field(job_id, "worker_name") or "").startswith("thread")
            and farm.field(job_id, "fence") != fences[job_id]
            and not farm.field(job_id, "lost_worker")
            for job_id in job_ids
        )  # fmt: skip

    wait_until(all_started_again, limit_s + 5)
    took_s = time.monotonic() - killed
    print(f"taken up after {took_s:.1f} s")
    assert took_s < limit_s
    list(cancel_jobs(farm.connection, farm.settings, job_ids))
