"""What the farm worker promises, on a real server with a fake fast decoder."""

import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue, Retry
from rq.command import (
    send_shutdown_command,
    send_stop_execution_command,
    send_stop_job_command,
)
from rq.job import Job as RQJob
from rq.suspension import resume, suspend
from rq.worker import Worker

from producer import embedded
from producer.batches.actions import cancel_jobs
from producer.batches.views import pause
from producer.errors import InvalidModel
from producer.queue import checkpoint_key, progress_key, read_progress, read_result, result_key
from tests.stage.fake_engine import FakeEngine, expected_text, job, source
from tests.stage.farm import Farm, wait_until


@pytest.fixture
def farm(settings, connection):
    """Return a farm on an empty server; its workers end with the test and leave no lease behind."""
    farm = Farm(f"unix://{embedded.status(settings).socket}")
    yield farm
    farm.stop()


def rq_queue(farm, name="default"):
    return Queue(name, connection=farm.connection, serializer="json")


def test_a_recording_becomes_a_transcript_and_leaves_nothing_behind(farm):
    """The result has the engine's text and what only the farm knows; leases are gone."""
    asked = job("a", windows=2).model_copy(update={"metadata": {"shelf": 3}, "batch": "b"})
    worker = farm.start()
    (job_id,) = farm.submit(asked)
    result = farm.result(job_id)
    assert result.status == "succeeded"
    assert result.text == expected_text(asked.source)
    assert (result.job_id, result.source) == (job_id, asked.source)
    assert result.metadata == {"shelf": 3}
    assert result.worker == worker.worker.name
    assert 0 <= result.timing.queue_s < 5
    assert farm.commits() == {job_id: 1}
    assert farm.state(job_id) == "finished"
    assert farm.leftovers() == []


def test_hundreds_of_recordings_on_three_workers_are_each_committed_once(farm):
    """Many workers on one queue never take the same job."""
    jobs = [job(f"r{number}") for number in range(300)]
    for _ in range(3):
        farm.start()
    job_ids = farm.submit(*jobs)
    texts = [farm.result(job_id).text for job_id in job_ids]
    assert texts == [expected_text(each.source) for each in jobs]
    assert set(farm.commits().values()) == {1}
    assert len(farm.commits()) == 300
    assert farm.leftovers() == []


def test_the_return_value_of_the_rq_job_is_a_pointer_to_the_result(farm):
    """RQ's own stream holds a few bytes, whatever the length of the transcript."""
    farm.start()
    (job_id,) = farm.submit(job("a"))
    farm.result(job_id)
    pointer = RQJob.fetch(job_id, farm.connection, serializer="json").return_value()
    assert pointer == {"result_key": result_key(job_id), "status": "succeeded"}


def test_high_priority_comes_first_and_low_is_not_starved(farm):
    """With one place and a full first queue, a lower queue gets about one claim in eight."""
    engine = FakeEngine(capacity=1)
    high = [job(f"high{number}", windows=1, window_s=0.001) for number in range(40)]
    low = [job(f"low{number}", windows=1, window_s=0.001) for number in range(2)]
    farm.submit(*low, queue="low")
    farm.submit(*high, queue="high")
    farm.start(engine, burst=True).wait()
    order = [ticket.job.source for ticket in engine.seen]
    assert len(order) == 42
    assert all("high" in each for each in order[:7])
    assert max(order.index(each.source) for each in low) < 32


def test_a_job_that_runs_longer_than_a_lease_keeps_it(farm):
    """Heartbeats renew the lease while an idle peer looks for dead workers all the time."""
    farm.configure(lease_s=1.0, heartbeat_s=0.2, reap_s=0.1)
    farm.start()
    farm.start()
    (job_id,) = farm.submit(job("long", windows=4, window_s=0.6))
    assert farm.result(job_id).status == "succeeded"
    assert farm.commits() == {job_id: 1}
    assert farm.field(job_id, "attempts") is None


def test_a_permanent_error_is_final_at_once(farm):
    """A recording that cannot be read is not tried again; its error is typed."""
    farm.start()
    (job_id,) = farm.submit(job("bad", error="corrupt_audio"))
    result = farm.result(job_id)
    assert (result.status, result.error.code) == ("failed", "corrupt_audio")
    assert [attempt.code for attempt in result.attempts] == ["corrupt_audio"]
    assert farm.state(job_id) == "failed"
    failed = rq_queue(farm).failed_job_registry.get_job_ids(cleanup=False)
    assert failed == [job_id]


def test_a_transient_error_is_tried_again_with_delays_and_then_final_with_every_attempt(farm):
    """Three attempts by default; the result lists each of them."""
    engine = FakeEngine()
    farm.start(engine)
    started = time.monotonic()
    (job_id,) = farm.submit(job("away", error="source_unreachable"))
    result = farm.result(job_id)
    assert result.error.code == "source_unreachable"
    assert [attempt.code for attempt in result.attempts] == ["source_unreachable"] * 3
    assert len(engine.seen) == 3
    assert time.monotonic() - started > 0.6
    assert farm.commits() == {job_id: 1}


def test_a_retried_recording_goes_on_where_it_stood(farm):
    """The checkpoint of a failed attempt is kept, and the text is that of an unbroken run."""
    engine = FakeEngine()
    farm.start(engine)
    asked = job("flaky", windows=5, error="out_of_memory", error_at=3, once="1")
    (job_id,) = farm.submit(asked)
    assert farm.result(job_id).text == expected_text(asked.source)
    assert [ticket.checkpoint and ticket.checkpoint.seek for ticket in engine.seen] == [None, 9000]


def test_retries_that_an_rq_program_asks_for_are_honoured(farm):
    """`Retry(max=1)` means two attempts, not the farm's three."""
    engine = FakeEngine()
    farm.start(engine)
    rq_job = rq_queue(farm).enqueue(
        "worker.tasks.transcribe",
        source=source("away", error="out_of_memory"),
        retry=Retry(max=1, interval=1),
    )
    result = farm.result(rq_job.id)
    assert [attempt.code for attempt in result.attempts] == ["out_of_memory"] * 2
    assert len(engine.seen) == 2


def test_a_queued_job_that_was_cancelled_is_never_started(farm):
    """The claim looks at the job's status, not only at the queue's list."""
    engine = FakeEngine()
    job_ids = farm.submit(job("a"), job("b"))
    list(cancel_jobs(farm.connection, farm.settings, job_ids[:1]))
    farm.start(engine, burst=True).wait()
    assert [ticket.job_id for ticket in engine.seen] == job_ids[1:]
    assert farm.commits() == dict.fromkeys(job_ids, 1)


def test_a_running_job_is_cancelled_by_the_flag_in_its_hash(farm):
    """The flag reaches the worker with a heartbeat, whatever happened to the command."""
    farm.start()
    (job_id,) = farm.submit(job("slow", windows=1000, window_s=0.05))
    wait_until(lambda: farm.state(job_id) == "started")
    (verdict,) = cancel_jobs(farm.connection, farm.settings, [job_id])
    assert verdict.outcome == "cancelling"
    assert farm.result(job_id).error.code == "cancelled"
    assert farm.state(job_id) == "stopped"


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


def test_a_timeout_that_an_rq_program_asks_for_is_a_deadline(farm):
    """The job is dropped by the engine; its neighbour goes on."""
    farm.start()
    slow = source("slow", windows=10_000, window_s=0.05)
    late = rq_queue(farm).enqueue("worker.tasks.transcribe", source=slow, job_timeout=1)
    (other,) = farm.submit(job("other", windows=40, window_s=0.05))
    result = farm.result(late.id)
    assert (result.error.code, result.error.retryable) == ("job_timeout", False)
    assert farm.result(other).status == "succeeded"


def test_without_a_timeout_the_deadline_grows_with_the_recording(farm):
    """deadline_factor times the duration, known from the first window on."""
    farm.configure(min_deadline_s=0.2, deadline_factor=0.05)
    farm.start()
    # 3 windows of 30 s: 4.5 s; the work takes 0.9 s. One of 30 s: 1.5 s; it takes for ever.
    fine, late = farm.submit(
        job("fine", windows=3, window_s=0.15), job("late", windows=1, window_s=9)
    )
    assert farm.result(fine).status == "succeeded"
    assert farm.result(late).error.code == "job_timeout"


def test_progress_and_checkpoint_can_be_read_while_a_recording_runs(farm):
    """Seconds done and the text so far, in a hash that goes away with the job."""
    farm.start()
    (job_id,) = farm.submit(job("slow", windows=1000, window_s=0.02))
    progress = wait_until(lambda: read_progress(farm.connection, [job_id]).get(job_id))
    assert float(progress["duration_s"]) == 30_000
    assert 0 < float(progress["seconds_done"]) < 30_000
    assert progress["text"].startswith("slow-0")
    assert 0 < farm.connection.ttl(progress_key(job_id)) <= farm.settings.queue.job_ttl_s
    list(cancel_jobs(farm.connection, farm.settings, [job_id]))
    farm.result(job_id)
    assert farm.leftovers() == []


def test_rq_suspend_and_pause_keep_workers_from_claiming(farm):
    """`rq suspend` is RQ's own switch; ours is the same one."""
    pause(farm.connection)
    farm.start()
    (job_id,) = farm.submit(job("a"))
    first = read_result(farm.connection, job_id)
    resume(farm.connection)
    assert first is None
    assert farm.result(job_id).status == "succeeded"
    suspend(farm.connection)
    (other,) = farm.submit(job("b"))
    time_of_claims = time.monotonic() + 0.6
    wait_until(lambda: time.monotonic() > time_of_claims)
    assert farm.state(other) == "queued"
    resume(farm.connection)


def test_outside_the_active_hours_nothing_is_claimed(farm):
    """A burst ends with the jobs still waiting."""
    now = datetime.now(UTC)
    opens, closes = now + timedelta(hours=2), now + timedelta(hours=3)
    farm.configure(active_hours=f"{opens:%H}:00-{closes:%H}:00", timezone="UTC")
    (job_id,) = farm.submit(job("a"))
    farm.start(burst=True).wait()
    assert farm.state(job_id) == "queued"


def test_a_job_scheduled_by_an_rq_program_is_run_when_it_is_due(farm):
    """No scheduler process is needed."""
    farm.start()
    due = rq_queue(farm).enqueue_in(
        timedelta(seconds=1), "worker.tasks.transcribe", source=source("a")
    )
    assert farm.state(due.id) == "scheduled"
    assert farm.result(due.id).status == "succeeded"


def test_rq_sees_the_worker_and_its_executions(farm):
    """Monitoring that knows RQ knows the farm."""
    worker = farm.start()
    job_ids = farm.submit(*(job(f"slow{n}", windows=40, window_s=0.05) for n in range(3)))
    wait_until(lambda: all(farm.state(job_id) == "started" for job_id in job_ids))
    (seen,) = Worker.all(connection=farm.connection)
    assert seen.name == worker.worker.name
    assert {each.job_id for each in seen.get_current_executions()} == set(job_ids)
    assert set(rq_queue(farm).started_job_registry.get_job_ids(cleanup=False)) == set(job_ids)
    for job_id in job_ids:
        farm.result(job_id)
    worker.stop()
    assert Worker.all(connection=farm.connection) == []


def test_a_drained_worker_finishes_what_fits_into_the_grace_period(farm, tmp_path):
    """SIGTERM: exit 0, the running jobs have results, the waiting ones are untouched."""
    farm.configure(slots=2, grace_s=10.0)
    worker = farm.start_process(log=tmp_path / "log")
    job_ids = farm.submit(*(job(f"d{n}", windows=10, window_s=0.1) for n in range(4)))
    wait_until(lambda: farm.state(job_ids[1]) == "started")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert [farm.state(job_id) for job_id in job_ids] == ["finished"] * 2 + ["queued"] * 2
    assert rq_queue(farm).get_job_ids() == job_ids[2:]


def test_what_does_not_fit_goes_back_to_the_front_with_its_progress_and_no_retry_spent(farm):
    """The next worker goes on where the drained one stood."""
    farm.configure(slots=2, grace_s=0.3)
    worker = farm.start_process()
    jobs = [job(f"d{n}", windows=20, window_s=0.1) for n in range(4)]
    job_ids = farm.submit(*jobs)
    wait_until(lambda: read_progress(farm.connection, job_ids[:2]).keys() == set(job_ids[:2]))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert rq_queue(farm).get_job_ids() == job_ids
    assert farm.field(job_ids[0], "attempts") is None
    assert farm.connection.exists(checkpoint_key(job_ids[0]))
    engine = FakeEngine()
    farm.start(engine)
    assert [farm.result(job_id).text for job_id in job_ids] == [
        expected_text(each.source) for each in jobs
    ]
    assert engine.seen[0].checkpoint.seek > 0


def test_a_second_signal_ends_the_worker_at_once_and_still_gives_its_jobs_back(farm):
    """Nobody waits for the grace period a second time."""
    farm.configure(grace_s=60.0)
    worker = farm.start_process()
    (job_id,) = farm.submit(job("slow", windows=1000, window_s=0.1))
    wait_until(lambda: farm.state(job_id) == "started")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: farm.connection.scard("rq:workers") == 1)
    started = time.monotonic()
    worker.signal(signal.SIGINT)
    assert worker.wait(5) == 130
    assert time.monotonic() - started < 3
    assert farm.state(job_id) == "queued"


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
    assert all(ticket.checkpoint.seek >= 3000 for ticket in engine.seen)
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
