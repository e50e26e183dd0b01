"""A worker as RQ and its supervisor see it: registered, commanded, drained, stopped."""

import signal
import time

import pytest
from rq.command import (
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.worker import Worker

from producer.keys import checkpoint_key
from producer.queue import read_progress
from tests.stage.fake_engine import FakeEngine, expected_text, job
from tests.stage.farm import wait_until


@pytest.mark.parametrize("what", ["job", "execution"])
def test_rq_stop_commands_stop_one_job_and_no_other(farm, what):
    """RQ's own stop commands work with many jobs in flight."""
    farm.start()
    slow = [job(f"slow{number}", windows=60, window_s=0.05) for number in range(3)]
    job_ids = farm.submit(*slow)
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    if what == "job":
        send_stop_job_command(farm.connection, job_ids[1], serializer="json")
    else:
        fence = farm.field(job_ids[1], "fence")
        send_stop_execution_command(farm.connection, job_ids[1], fence)
    results = [farm.result(job_id) for job_id in job_ids]
    assert [each.status for each in results] == ["succeeded", "failed", "succeeded"]
    assert results[1].error.code == "cancelled"


def test_rq_shutdown_command_drains_the_worker(farm):
    """The running job is finished, the worker ends well."""
    worker = farm.start()
    (job_id,) = farm.submit(job("slow", windows=10, window_s=0.05))
    wait_until(lambda: farm.state(job_id) == "started")
    send_shutdown_command(farm.connection, worker.worker.name)
    assert worker.wait() == 0
    assert farm.result(job_id).status == "succeeded"


def test_a_malformed_command_is_ignored(farm):
    """Anybody who may publish cannot end the command listener."""
    worker = farm.start()
    channel = worker.worker.pubsub_channel_name
    wait_until(lambda: farm.connection.pubsub_numsub(channel)[0][1] == 1)
    for payload in (b"not json", b"[]", b"{}", b'{"command": "format-disk"}', b"\xff\xfe"):
        farm.connection.publish(channel, payload)
    (job_id,) = farm.submit(job("slow", windows=1000, window_s=0.05))
    wait_until(lambda: farm.state(job_id) == "started")
    send_stop_job_command(farm.connection, job_id, serializer="json")
    assert farm.result(job_id).error.code == "cancelled"


def test_rq_sees_the_worker_and_its_executions(farm):
    """Monitoring that knows RQ knows the farm."""
    worker = farm.start()
    job_ids = farm.submit(*(job(f"slow{n}", windows=40, window_s=0.05) for n in range(3)))
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    (seen,) = Worker.all(connection=farm.connection)
    assert seen.name == worker.worker.name
    assert {each.job_id for each in seen.get_current_executions()} == set(job_ids)
    assert set(farm.own_queue().started_job_registry.get_job_ids(cleanup=False)) == set(job_ids)
    for job_id in job_ids:
        farm.result(job_id)
    worker.stop()
    assert Worker.all(connection=farm.connection) == []


def test_a_drained_worker_finishes_what_fits_into_the_grace_period(farm, tmp_path):
    """SIGTERM: exit 0, the running jobs have results, the waiting ones are untouched."""
    farm.configure(slots=2, grace_s=60.0)
    worker = farm.start_process(log=tmp_path / "log")
    job_ids = farm.submit(*(job(f"d{n}", windows=10, window_s=0.1) for n in range(4)))
    # In the engine, not only claimed: what reaches a worker that drains is handed back at once.
    wait_until(lambda: read_progress(farm.connection, job_ids[:2]).keys() == set(job_ids[:2]))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert [farm.state(job_id) for job_id in job_ids] == ["finished"] * 2 + ["queued"] * 2
    assert farm.own_queue().get_job_ids() == job_ids[2:]


def test_what_does_not_fit_goes_back_to_the_front_with_its_progress_and_no_retry_spent(farm):
    """The next worker goes on where the drained one stood."""
    farm.configure(slots=2, grace_s=0.3)
    worker = farm.start_process()
    jobs = [job(f"d{n}", windows=20, window_s=0.1) for n in range(4)]
    job_ids = farm.submit(*jobs)
    wait_until(lambda: read_progress(farm.connection, job_ids[:2]).keys() == set(job_ids[:2]))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert farm.own_queue().get_job_ids() == job_ids
    assert farm.field(job_ids[0], "attempts") is None
    assert farm.connection.exists(checkpoint_key(job_ids[0]))
    engine = FakeEngine()
    farm.start(engine)
    assert [farm.result(job_id).text for job_id in job_ids] == [
        expected_text(each.source) for each in jobs
    ]
    assert engine.seen[0].checkpoint.segments


def test_a_second_signal_ends_the_worker_at_once_and_still_gives_its_jobs_back(farm):
    """Nobody waits for the grace period a second time."""
    farm.configure(grace_s=60.0)
    worker = farm.start_process()
    (job_id,) = farm.submit(job("slow", windows=1000, window_s=0.1))
    # At work, not only claimed: a worker that is ended before it reads the claim's reply has no job.
    wait_until(lambda: read_progress(farm.connection, [job_id]))
    worker.signal(signal.SIGTERM)
    started = time.monotonic()
    worker.signal(signal.SIGINT)
    assert worker.wait(5) == 130
    assert time.monotonic() - started < 3
    assert farm.state(job_id) == "queued"
