"""Queues by model: their names, what is counted, and what is said when nobody has a model."""

import pytest

from producer.archive.find import Names, find
from producer.archive.hash_cache import HashCache
from producer.archive.prepare import SubmitOptions
from producer.archive.submit import submit_archive
from producer.batches.watching import batch_status
from producer.cli.status_lines import plain_line, status_lines
from producer.errors import InvalidOptions, QueueFull
from producer.fleet import farm_status
from producer.job import Job
from producer.keys import model_queue, split_queue
from producer.models_served import batch_models, farm_queues, is_served, unserved, unserved_lines
from producer.queue import job_id_of, submit, with_defaults
from producer.settings import load_settings
from producer.worker_records import WorkerRecord
from tests.producer.known_jobs import job, jobs, waiting


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("default", None, None), "default"),
        (("default", "base", None), "default@base"),
        (
            ("low", "mlx-community/whisper_x+1", "1a5afae0"),
            "low@mlx-community/whisper_x+1@1a5afae0",
        ),
        (("low", "a b,c@d~é:*", "r@1"), "low@a%20b%2Cc%40d%7E%C3%A9%3A%2A@r%401"),
        (("low", "100%", None), "low@100%25"),
    ],
)
def test_a_queues_name_holds_the_model_and_gives_it_back(parts, name):
    """Whatever a folder is called, RQ's list of queues is joined with commas."""
    assert model_queue(*parts) == name
    assert split_queue(name) == parts


def test_a_job_without_a_model_gets_that_of_the_settings(settings):
    """Its id is the id of the job that names the model; a pinned revision is part of it."""
    pinned = load_settings(model={"name": "base", "revision": "r1"})
    assert (with_defaults(job(), pinned).model, with_defaults(job(), pinned).revision) == (
        "base",
        "r1",
    )
    named = job(model="base", revision="r1")
    assert job_id_of(job(), pinned) == job_id_of(job(model="base"), pinned)
    assert job_id_of(job(), pinned) == job_id_of(named, settings)
    assert with_defaults(job(model="tiny.en"), pinned).revision is None
    ids = {job_id_of(job(model=name), settings) for name in ("base", "tiny.en", "small")}
    assert len(ids) == 3


def test_a_revision_without_a_model_is_refused():
    """It would be a revision of whatever the next worker has."""
    with pytest.raises(InvalidOptions, match="revision needs model"):
        Job.from_kwargs({"source": "a", "revision": "r1"})


def test_jobs_of_several_models_wait_in_queues_of_their_own_and_are_counted_together(
    connection, settings
):
    """One call, three models: `status` sums them by queue and shows them by model."""
    asked = [job(0), job(1, model="base"), job(2, model="base", revision="r")]
    submit(connection, settings, [each.model_copy(update={"batch": "b"}) for each in asked])
    assert len(waiting(connection, "default@tiny.en")) == 1
    assert len(waiting(connection, "default@base")) == 1
    assert len(waiting(connection, "default@base@r")) == 1
    status = farm_status(connection, settings)
    assert status.queued == {"high": 0, "default": 3, "low": 0}
    assert status.queued_by_model == {"tiny.en": 1, "base": 1, "base@r": 1}
    assert batch_models(connection, "b") == ["base", "base@r", "tiny.en"]
    assert farm_queues(connection, ["low"]) == ["low"]


def test_waiting_jobs_of_all_models_count_against_the_limit(connection, server_settings):
    """Pressure on the server is the sum of the models, too."""
    settings = load_settings(queue={"max_queued": 2})
    submit(connection, settings, [job(0, model="base")])
    submit(connection, settings, [job(1, model="others/small")], queue="low")
    with pytest.raises(QueueFull):
        submit(connection, settings, [job(2)])


def worker(*queues):
    return WorkerRecord(name="w", queues=queues, model="base", revision="r")


def test_models_that_no_worker_has_are_named_with_the_way_to_one():
    """A worker has what its queues say; one of any model has jobs without a model only."""
    queued = {"base": 12, "small@r": 1, "tiny.en": 3, "": 4}
    missing = unserved(queued, [worker("default", "default@tiny.en")])
    assert missing == {"base": 12, "small@r": 1}
    start = "no worker has it: start one: scribefarm-worker run with SCRIBEFARM_MODEL__"
    assert list(unserved_lines(missing)) == [
        f"12 jobs wait for base; {start}NAME=base",
        f"1 job waits for small at r; {start}NAME=small SCRIBEFARM_MODEL__REVISION=r",
    ]
    assert unserved(queued, [worker("low@base", "low@small@r", "low@tiny.en")]) == {}


def test_a_batch_says_its_model_and_that_nobody_has_it(connection, settings):
    """In `status BATCH` and in each line of `watch`; another batch's trouble is not its own."""
    submit(connection, settings, jobs(2, batch="night", model="base"))
    submit(connection, settings, jobs(2, batch="other"))
    look = batch_status(connection, settings, "night")
    assert (look.models, look.unserved) == (["base"], {"base": 2})
    assert "  model base" in list(status_lines(look))
    assert "2 jobs wait for base; no worker has it" in plain_line(look)
    assert batch_status(connection, settings, "other").unserved == {"tiny.en": 2}


def test_jobs_are_served_by_a_worker_of_their_model_alone(connection, settings):
    """Whoever waits for them can tell that a worker of another model does not help."""
    [entry] = submit(connection, settings, [job(model="base")])
    ids = {entry.job_id}
    assert is_served(connection, ids, [worker("high@base", "default@base")])
    assert not is_served(connection, ids, [worker("default", "default@tiny.en")])
    assert not is_served(connection, ids, [])
    connection.hset(f"rq:job:{entry.job_id}", "status", "started")
    assert is_served(connection, ids, [worker("default", "default@tiny.en")])


def test_the_manifests_model_wins_over_the_settings(connection, settings, tmp_path):
    """Each file may name its own; the others take the settings'."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"a")
    with Names() as names, HashCache(tmp_path / "hashes") as cache:
        asked = SubmitOptions(batch="b", model="base")
        list(submit_archive(connection, settings, find([str(path)], names), asked, cache))
    assert len(waiting(connection, "default@base")) == 1
