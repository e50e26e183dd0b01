"""Several models on one farm: each worker does the jobs of its own model, and loses no other's."""

from datetime import timedelta

from rq import Queue

from producer.batches.actions import cancel_jobs, retry_jobs
from producer.keys import WORKERS_KEY, job_key, queue_key
from producer.queue import job_id_of, submit
from producer.result import Model
from tests.stage.fake_engine import FakeEngine, expected_text, job, source
from tests.stage.farm import wait_until
from worker.farm.scripts import FarmScripts

TASK = "worker.tasks.transcribe"
REVISION = "0123abcd"


def engine_of(name, capacity=8):
    return FakeEngine(capacity, Model(name=name, revision=REVISION, dtype="float32"))


def of(name, number=0, *, revision=None, **options):
    """Return a job for a model."""
    named = {"model": name, "revision": revision}
    return job(f"{name}-{number}", **options).model_copy(update=named)


def scripts(farm, worker, model):
    return FarmScripts(farm.connection, farm.settings, worker, [(model, None), (model, REVISION)])


def models_seen(engine):
    return {ticket.job.model for ticket in engine.seen}


def test_two_models_on_one_farm_each_do_their_own_jobs(farm):
    """By name and by revision; the text's model is the one that the id names."""
    tiny, base = engine_of("tiny.en"), engine_of("base")
    asked = [of(name, number) for number in range(20) for name in ("tiny.en", "base")]
    asked += [of("base", "pinned", revision=REVISION)]
    job_ids = farm.submit(*asked)
    farm.start(tiny)
    farm.start(base)
    results = [farm.result(job_id) for job_id in job_ids]
    assert [result.model.name for result in results] == [each.model for each in asked]
    assert [result.text for result in results] == [expected_text(each.source) for each in asked]
    assert (models_seen(tiny), models_seen(base)) == ({"tiny.en"}, {"base"})
    assert farm.leftovers() == []


def test_jobs_of_a_model_that_nobody_has_wait_for_it(farm):
    """They fail not; a worker that comes later does them. Another revision is another model."""
    waiting = [of("base"), of("tiny.en", revision="another")]
    job_ids = farm.submit(*waiting)
    tiny = engine_of("tiny.en")
    farm.start(tiny, burst=True).wait()
    assert [farm.state(job_id) for job_id in job_ids] == ["queued", "queued"]
    assert tiny.seen == []
    farm.start(engine_of("base"))
    assert farm.result(job_ids[0]).model.name == "base"


def test_a_branch_that_the_settings_pin_is_the_workers_revision_too(farm):
    """The submitter knows the branch; the worker loaded the commit behind it."""
    farm.settings = farm.settings.model_copy(
        update={"model": farm.settings.model.model_copy(update={"revision": "main"})}
    )
    (job_id,) = farm.submit(of("base", revision="main"))
    farm.start(engine_of("base"))
    assert farm.result(job_id).status == "succeeded"


def test_jobs_without_a_model_go_to_any_worker(farm):
    """What an RQ program enqueues as ever, on the plain queue."""
    for number in range(4):
        farm.queue().enqueue(TASK, source=source(f"any{number}"), job_id=f"any{number}")
    farm.start(engine_of("tiny.en"), burst=True).wait()
    assert farm.result("any3").model.name == "tiny.en"
    assert [farm.result(f"any{number}").status for number in range(4)] == ["succeeded"] * 4


def test_a_job_on_a_plain_queue_is_routed_to_its_models(farm):
    """It spends no try, takes its place by the time of its submission, and is done by the other."""
    for number in range(3):
        kwargs = {"source": source(f"a{number}"), "model": "base"}
        farm.queue().enqueue(TASK, kwargs=kwargs, job_id=f"a{number}")
    (later,) = farm.submit(of("base", "later"))
    tiny = engine_of("tiny.en", 2)
    farm.start(tiny, burst=True).wait()
    assert farm.own_queue(model="base").get_job_ids() == ["a0", "a1", "a2", later]
    assert farm.queue().get_job_ids() == tiny.seen == []
    assert farm.field("a0", "origin") == "default@base"
    assert farm.field("a0", "tries") is None
    assert farm.leftovers() == []
    base = engine_of("base", 1)
    farm.start(base, burst=True).wait()
    assert [ticket.job_id for ticket in base.seen] == ["a0", "a1", "a2", later]


def test_a_dead_workers_jobs_are_taken_over_by_a_peer_of_another_model(farm):
    """It decides what becomes of them and gives them back to their own queue."""
    farm.configure(lease_s=0.5, heartbeat_s=0.1, reap_s=0.1)
    (job_id,) = farm.submit(of("base"))
    (claim,) = scripts(farm, "dead", "base").claim(1, suspects=1)
    assert claim.queue == "default@base"
    tiny = engine_of("tiny.en")
    farm.start(tiny)
    wait_until(lambda: farm.state(job_id) == "queued")
    assert farm.own_queue(model="base").get_job_ids() == [job_id]
    assert (farm.field(job_id, "deaths"), farm.field(job_id, "tries")) == ("1", "1")
    assert tiny.seen == []
    farm.start(engine_of("base"))
    assert farm.result(job_id).model.name == "base"


def test_a_delayed_try_comes_back_to_its_models_queue(farm):
    """Whichever worker notices that it is due."""
    (job_id,) = farm.submit(of("base", error="source_unreachable", once="1"))
    base = farm.start(engine_of("base"))
    wait_until(lambda: farm.state(job_id) == "scheduled")
    base.stop()
    farm.start(engine_of("tiny.en"))
    wait_until(lambda: farm.own_queue(model="base").get_job_ids() == [job_id])
    delayed = farm.queue().enqueue_in(timedelta(seconds=1), TASK, source=source("any"))
    assert farm.result(delayed.id).model.name == "tiny.en"


def test_the_queues_of_a_level_take_turns_and_lower_levels_are_not_starved(farm):
    """Jobs without a model and jobs of each name of ours; every eighth claim starts lower."""
    for number in range(12):
        farm.queue().enqueue(TASK, source=source("x"), job_id=f"any{number}")
    farm.submit(*(of("base", f"name{number}") for number in range(12)))
    farm.submit(*(of("base", f"rev{number}", revision=REVISION) for number in range(12)))
    farm.submit(*(of("base", f"low{number}") for number in range(3)), queue="low")
    farm.queue("low").enqueue(TASK, source=source("x"), job_id="low-any")
    asker = scripts(farm, "w", "base")
    claims = [asker.claim(1, suspects=1)[0].queue for _ in range(32)]
    assert {queue: claims[:6].count(queue) for queue in set(claims[:6])} == {
        "default": 2,
        "default@base": 2,
        f"default@base@{REVISION}": 2,
    }
    assert {"low", "low@base"} <= set(claims)


def test_rq_sees_the_queues_of_models_and_of_workers(farm):
    """Stock tools read all of it: queues, their workers, registries of what has ended."""
    good, bad, waiting = farm.submit(
        of("base"), of("base", "bad", error="corrupt_audio"), of("tiny.en")
    )
    worker = farm.start(engine_of("base"))
    farm.result(good)
    farm.result(bad)
    names = {queue.name for queue in Queue.all(farm.connection, serializer="json")}
    assert {"default@base", "default@tiny.en"} <= names
    queue = farm.own_queue(model="base")
    assert queue.finished_job_registry.get_job_ids() == [good]
    assert queue.failed_job_registry.get_job_ids() == [bad]
    assert worker.worker.queue_names() == [
        name
        for level in ("high", "default", "low")
        for name in (level, f"{level}@base", f"{level}@base@{REVISION}")
    ]
    assert farm.connection.sismember(f"{WORKERS_KEY}:default@base", worker.worker.key)
    assert farm.state(waiting) == "queued"


def test_cancel_and_retry_work_on_jobs_of_a_model(farm):
    """Their queue is in the job's own record."""
    (job_id,) = farm.submit(of("base"))
    list(cancel_jobs(farm.connection, farm.settings, [job_id]))
    assert farm.result(job_id).error.code == "cancelled"
    assert list(retry_jobs(farm.connection, farm.settings, [job_id])) == [job_id]
    assert farm.connection.lrange(queue_key("default@base"), 0, -1)[-1] == job_id.encode()
    farm.start(engine_of("base"))
    assert wait_until(lambda: farm.result(job_id)).status == "succeeded"


def test_a_lease_is_found_although_its_queue_was_taken_from_the_list(farm):
    """`rq empty` and `Queue.delete` take a queue out of RQ's set of names."""
    (job_id,) = farm.submit(of("base"))
    farm.connection.delete("rq:queues")
    farm.configure(lease_s=0.2, heartbeat_s=0.05)
    scripts(farm, "dead", "base").claim(1, suspects=1)
    peer = scripts(farm, "peer", "tiny.en")
    (taken,) = wait_until(peer.reap)
    assert taken.job_id == job_id
    assert farm.connection.hget(job_key(job_id), "worker_name") == b"peer"


def test_a_program_that_takes_the_id_of_anothers_recording_gives_it_no_text(farm):
    """RQ lets anybody name an id; the text that came of other audio is not given to the owner."""
    mine = of("base", "mine").model_copy(update={"audio_sha256": "0" * 64})
    stolen = job_id_of(mine, farm.settings)
    kwargs = {"source": source("theirs", sha256="f" * 64), "model": "base"}
    kwargs["audio_sha256"] = "f" * 64
    farm.queue().enqueue(TASK, kwargs=kwargs, job_id=stolen)
    farm.start(engine_of("base"))
    assert "theirs" in farm.result(stolen).text
    (entry,) = submit(farm.connection, farm.settings, [mine])
    assert (entry.job_id, entry.is_new) == (stolen, True)
    assert farm.result(stolen).text == expected_text(mine.source)
