"""Where stock RQ 3.0 loses or repeats jobs, each case reproduced, and the same case with ours.

The numbers are those of the design notes: H1 to H9. A death is played by not doing the next step.
"""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from rq import Queue, Retry, SimpleWorker
from rq.executions import Execution, prepare_execution
from rq.job import Job as RQJob
from rq.job import JobStatus
from rq.registry import StartedJobRegistry, clean_registries
from rq.results import Result

from tests.stage.claims import make_transcript
from tests.stage.fake_engine import FakeEngine, expected_text, job, source
from tests.stage.farm import wait_until
from worker.farm.commit import CommitVerdict, commit
from worker.farm.endings import success
from worker.farm.in_flight import read_flight
from worker.farm.scripts import FarmScripts, Release

TASK = "worker.tasks.transcribe"


@pytest.fixture
def farm(farm):
    """Return a farm whose leases end at once: what is claimed and not renewed is a dead worker's."""
    farm.configure(lease_s=0.05, heartbeat_s=0.02)
    return farm


def scripts(farm, name):
    return FarmScripts(farm.connection, farm.settings, name, [("fake", None)])


def reap(farm, name="peer"):
    """Take over what dead workers had, as soon as their leases have ended."""
    return wait_until(lambda: scripts(farm, name).reap())


def stock_start(farm, queue, *, retry=None):
    """Bring a job to the point where a stock worker runs it."""
    rq_job = queue.enqueue(TASK, source="a", retry=retry)
    worker = SimpleWorker([queue], connection=farm.connection, serializer="json")
    (rq_job, _) = Queue.dequeue_any([queue], None, connection=farm.connection, serializer="json")
    execution = prepare_execution(worker, rq_job)
    worker.prepare_job_execution(rq_job, remove_from_intermediate_queue=True)
    return worker, rq_job, execution


def long_after():
    return (datetime.now(UTC) + timedelta(hours=2)).timestamp()


class _MeetingJob(RQJob):
    """A job whose readers all read before one of them writes."""

    barrier = threading.Barrier(2)

    @classmethod
    def fetch(cls, *args, **kwargs):
        fetched = super().fetch(*args, **kwargs)
        cls.barrier.wait(10)
        return fetched


def test_h1_stock_two_cleanups_at_once_queue_an_abandoned_job_twice(farm):
    """`registry.count` and `rq info` clean up without a lock, so two of them meet."""
    queue = farm.queue()
    stock_start(farm, queue, retry=Retry(max=3))
    registries = [
        StartedJobRegistry(queue.name, farm.connection, job_class=_MeetingJob, serializer="json")
        for _ in range(2)
    ]
    threads = [threading.Thread(target=each.cleanup, args=(long_after(),)) for each in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(queue.get_job_ids()) == 2


def test_h1_ours_any_number_of_reapers_take_an_abandoned_job_once(farm):
    """The reap is one script; whoever comes second finds a lease that runs."""
    job_ids = farm.submit(*(job(f"a{number}") for number in range(20)))
    claimed = scripts(farm, "dead").claim(20, suspects=1)
    assert len(claimed) == 20
    taken = []
    farm.configure(lease_s=30.0)
    reapers = [scripts(farm, f"peer{number}") for number in range(4)]

    def reap_all(reaper):
        wait_until(lambda: taken.extend(reaper.reap()) or len(taken) >= 20)

    threads = [threading.Thread(target=reap_all, args=(each,)) for each in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.job_id for each in taken) == sorted(job_ids)


def test_h1_ours_is_not_disturbed_by_the_cleanup_of_rq_info(farm):
    """An expired lease is ours to deal with: RQ's clean-up comes an hour later."""
    (job_id,) = farm.submit(job("a"))
    scripts(farm, "dead").claim(1, suspects=1)
    clean_registries(farm.own_queue())
    assert farm.state(job_id) == "started"
    assert [each.job_id for each in reap(farm)] == [job_id]


def test_h2_stock_a_death_after_the_pop_from_two_queues_loses_the_job(farm):
    """Status queued, on no list, in no registry: nobody will ever look at it again."""
    queues = [farm.queue(), farm.queue("low")]
    rq_job = queues[0].enqueue(TASK, source="a")
    Queue.dequeue_any(queues, None, connection=farm.connection, serializer="json")
    for queue in queues:
        clean_registries(queue)
    assert rq_job.get_status() == JobStatus.QUEUED
    assert queues[0].get_job_ids() == []
    assert queues[0].started_job_registry.get_job_ids() == []
    assert queues[0].intermediate_queue.get_job_ids() == []


def test_h2_to_h5_ours_a_death_after_the_claim_brings_the_job_back(farm):
    """Pop, status, fence and lease are one step: there is no place to die in between."""
    asked = job("a")
    (job_id,) = farm.submit(asked)
    (claim,) = scripts(farm, "dead").claim(1, suspects=1)
    assert farm.state(job_id) == "started"
    assert farm.field(job_id, "fence") == claim.execution_id
    farm.configure(lease_s=3.0)
    farm.start()
    assert farm.result(job_id).text == expected_text(asked.source)
    assert farm.commits() == {job_id: 1}


def test_h3_stock_a_death_after_the_pop_from_one_queue_waits_a_minute_and_then_fails(farm):
    """The intermediate queue is cleaned when a job was seen there twice, a minute apart."""
    queue = farm.queue()
    rq_job = queue.enqueue(TASK, source="a")
    Queue.dequeue_any([queue], None, connection=farm.connection, serializer="json")
    worker = SimpleWorker([queue], connection=farm.connection, serializer="json")
    for _ in range(3):
        queue.intermediate_queue.cleanup(worker, queue)
    assert queue.get_job_ids() == []
    assert rq_job.get_status() == JobStatus.QUEUED
    seen_key = queue.intermediate_queue.get_first_seen_key(rq_job.id)
    farm.connection.set(seen_key, datetime.now(UTC).timestamp() - 61)
    queue.intermediate_queue.cleanup(worker, queue)
    assert rq_job.get_status() == JobStatus.FAILED


def test_h4_stock_an_abandoned_job_without_retry_fails(farm):
    """A worker's death is the job's end."""
    queue = farm.queue()
    _, rq_job, _ = stock_start(farm, queue)
    StartedJobRegistry(queue=queue).cleanup(long_after())
    assert rq_job.get_status() == JobStatus.FAILED


def test_h5_stock_a_death_before_the_job_is_prepared_leaves_it_in_between(farm):
    """The entry in the registry is dropped since the status still says queued."""
    queue = farm.queue()
    rq_job = queue.enqueue(TASK, source="a")
    worker = SimpleWorker([queue], connection=farm.connection, serializer="json")
    (rq_job, _) = Queue.dequeue_any([queue], None, connection=farm.connection, serializer="json")
    prepare_execution(worker, rq_job)
    StartedJobRegistry(queue=queue).cleanup(long_after())
    assert rq_job.get_status() == JobStatus.QUEUED
    assert queue.get_job_ids() == []
    assert queue.started_job_registry.get_job_ids(cleanup=False) == []
    assert queue.intermediate_queue.get_job_ids() == [rq_job.id]


def test_h6_stock_a_death_while_cleaning_blocks_maintenance_for_a_quarter_of_an_hour(farm):
    """The lock is a key with a long life that nobody else may take."""
    queue = farm.queue()
    assert queue.acquire_maintenance_lock()
    assert not queue.acquire_maintenance_lock()
    assert farm.connection.ttl(queue.registry_cleaning_key) > 890


def test_h6_ours_a_reaper_that_dies_while_reaping_blocks_nobody_and_costs_the_job_nothing(farm):
    """There is no lock; what the reaper took has a lease like all else, and one death is counted."""
    (job_id,) = farm.submit(job("a"))
    farm.own_queue().acquire_maintenance_lock()
    scripts(farm, "dead").claim(1, suspects=1)
    reap(farm, "reaper that dies")
    (taken,) = reap(farm, "peer")
    assert taken.job_id == job_id
    assert taken.fields["lost_worker"] == b"dead"
    assert taken.fields["deaths"] == b"1"


def test_h7_stock_a_zombie_finishes_a_job_that_another_worker_is_running(farm):
    """Nothing says whose result counts, and the job goes from finished back to queued."""
    queue = farm.queue()
    zombie, rq_job, execution = stock_start(farm, queue, retry=Retry(max=3))
    StartedJobRegistry(queue=queue).cleanup(long_after())
    assert rq_job.get_status() == JobStatus.QUEUED
    peer = SimpleWorker([queue], connection=farm.connection, serializer="json")
    (again, _) = Queue.dequeue_any([queue], None, connection=farm.connection, serializer="json")
    second = prepare_execution(peer, again)
    peer.prepare_job_execution(again, remove_from_intermediate_queue=True)
    rq_job.ended_at = again.ended_at = datetime.now(UTC)
    rq_job.started_at = again.started_at = datetime.now(UTC)
    rq_job._result = "of the zombie"
    zombie.handle_job_success(rq_job, queue, queue.started_job_registry, execution)
    assert again.get_status() == JobStatus.FINISHED
    peer.handle_job_failure(again, queue, exc_string="boom", execution=second)
    assert (
        RQJob.fetch(again.id, farm.connection, serializer="json").get_status() == JobStatus.QUEUED
    )


def test_h7_ours_a_zombie_cannot_commit_nor_give_back_nor_report(farm):
    """Its fence is not the job's any more."""
    (job_id,) = farm.submit(job("a"))
    zombie = scripts(farm, "zombie")
    (claim,) = zombie.claim(1, suspects=1)
    flight = read_flight(claim, None)
    outcome = success(flight, make_transcript(), "zombie", farm.settings.queue)
    (taken,) = reap(farm)
    scripts(farm, "peer").release([Release(job_id, taken.execution_id, taken.queue)])
    (second,) = scripts(farm, "peer").claim(1, suspects=1)
    assert commit(farm.connection, outcome) is CommitVerdict.FENCED_OFF
    assert zombie.release([Release(job_id, claim.execution_id, claim.queue)]) == []
    assert not zombie.progress(claim, {"seconds_done": "1"}, "{}")
    assert zombie.heartbeat([claim], {}, 60).lost == [claim.execution_id]
    assert farm.field(job_id, "fence") == second.execution_id
    assert farm.commits() == {}


def test_h8_stock_a_death_while_retrying_leaves_a_job_scheduled_nowhere(farm):
    """The status is written outside of the transaction that fills the registry."""
    queue = farm.queue()
    rq_job = queue.enqueue(TASK, source="a", retry=Retry(max=3, interval=10))
    with farm.connection.pipeline() as pipeline:
        rq_job.retry(queue, pipeline)
        pipeline.reset()
    assert rq_job.get_status() == JobStatus.SCHEDULED
    assert queue.scheduled_job_registry.get_job_ids() == []


def test_h8_ours_a_retry_is_scheduled_in_one_step(farm):
    """Status and registry change together, and the job comes back when it is due."""
    asked = job("a")
    (job_id,) = farm.submit(asked)
    (claim,) = scripts(farm, "w").claim(1, suspects=1)
    record = '{"code": "source_unreachable"}'
    release = Release(job_id, claim.execution_id, claim.queue, delay_s=0.5, record=record)
    assert scripts(farm, "w").release([release]) == [claim.execution_id]
    assert farm.state(job_id) == "scheduled"
    assert farm.own_queue().scheduled_job_registry.get_job_ids() == [job_id]
    assert wait_until(lambda: scripts(farm, "w").due()) == 1
    assert farm.own_queue().get_job_ids() == [job_id]


def test_h9_stock_a_job_id_that_is_enqueued_twice_runs_twice(farm):
    """Without `unique` the queue holds the id twice."""
    queue = farm.queue()
    for _ in range(2):
        rq_job = queue.enqueue("time.time", job_id="same")
    worker = SimpleWorker([queue], connection=farm.connection, serializer="json")
    worker.work(burst=True)
    assert Result.count(rq_job) == 2


def test_h9_ours_a_job_id_that_is_enqueued_twice_runs_once(farm):
    """The claim drops an entry whose job is not waiting."""
    queue, engine = farm.queue(), FakeEngine()
    for _ in range(3):
        queue.enqueue(TASK, source=source("a"), job_id="same")
    farm.start(engine, burst=True).wait()
    assert len(engine.seen) == 1
    assert farm.commits() == {"same": 1}


def test_an_execution_of_ours_is_one_that_rq_can_read(farm):
    """The records behind a lease are RQ's own."""
    (job_id,) = farm.submit(job("a"))
    (claim,) = scripts(farm, "w").claim(1, suspects=1)
    execution = Execution.fetch(claim.execution_id, job_id, farm.connection)
    assert (execution.job_id, execution.worker_name) == (job_id, "w")
