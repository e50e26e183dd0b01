"""What the farm worker promises about jobs, on a real server with a fake fast decoder."""

import time
from datetime import UTC, datetime, timedelta

from rq import Retry
from rq.job import Job as RQJob
from rq.suspension import resume, suspend

from producer.batches.actions import cancel_jobs
from producer.fleet import pause
from producer.queue import progress_key, read_progress, read_result, result_key
from tests.stage.fake_engine import FakeEngine, expected_text, job, source
from tests.stage.farm import wait_until


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
    failed = farm.own_queue().failed_job_registry.get_job_ids(cleanup=False)
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
    checkpoints = [ticket.checkpoint for ticket in engine.seen]
    assert [point and len(point.segments) for point in checkpoints] == [None, 3]


def test_retries_that_an_rq_program_asks_for_are_honoured(farm):
    """`Retry(max=1)` means two attempts, not the farm's three."""
    engine = FakeEngine()
    farm.start(engine)
    rq_job = farm.queue().enqueue(
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


def test_a_timeout_that_an_rq_program_asks_for_is_a_deadline(farm):
    """The job is dropped by the engine; its neighbour goes on."""
    farm.start()
    slow = source("slow", windows=10_000, window_s=0.05)
    late = farm.queue().enqueue("worker.tasks.transcribe", source=slow, job_timeout=1)
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
    due = farm.queue().enqueue_in(
        timedelta(seconds=1), "worker.tasks.transcribe", source=source("a")
    )
    assert farm.state(due.id) == "scheduled"
    assert farm.result(due.id).status == "succeeded"
