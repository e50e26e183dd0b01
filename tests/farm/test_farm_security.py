"""Every field of a job hash is untrusted input: refused with a typed error, or left untouched."""

import json
import pickle
import zlib

import pytest
from rq import Queue
from rq.job import Job as RQJob
from rq.serializers import JSONSerializer

from producer.queue import job_key, queue_key, result_key
from tests.stage.fake_engine import FakeEngine, job, source
from tests.stage.farm import wait_until
from worker.farm import farm_worker

TASK = "worker.tasks.transcribe"


class Bomb:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def push(farm, job_id="hostile", **fields):
    """Write a job hash as anybody can who may write job hashes, and queue it."""
    stored = {"status": "queued", "origin": "default", "created_at": "2025-01-01T00:00:00.000000Z"}
    farm.connection.hset(job_key(job_id), mapping=stored | fields)
    farm.connection.rpush(queue_key("default"), job_id)
    return job_id


def data(*, function=TASK, instance=None, args=(), kwargs=None):
    kwargs = {"source": source("a")} if kwargs is None else kwargs
    return JSONSerializer.dumps((function, instance, args, kwargs))


def refused(farm, job_id):
    """Return the failure of a refused job, having seen that the worker lives on."""
    result = farm.result(job_id)
    assert result.status == "failed"
    assert farm.state(job_id) == "failed"
    (next_id,) = farm.submit(job("the next good one"))
    assert farm.result(next_id).status == "succeeded"
    return result


@pytest.mark.parametrize(
    "function",
    [
        "os.system",
        "subprocess.run",
        "worker.tasks.transcribe.__call__",
        "builtins.eval",
        "",
        7,
        None,
    ],
)
def test_a_function_off_the_list_is_refused_before_anything_is_imported(farm, tmp_path, function):
    """RQ itself, also with JSON, runs any function it can import."""
    farm.start()
    mark = tmp_path / "mark"
    job_id = push(farm, data=data(function=function, args=(f"touch {mark}",)))
    assert refused(farm, job_id).error.code == "job_refused"
    assert not mark.exists()


@pytest.mark.parametrize("compress", [False, True])
def test_pickle_in_data_is_refused_unloaded(farm, tmp_path, compress):
    """The default serializer of RQ is pickle; here it is a wrong format."""
    farm.start()
    mark = tmp_path / "mark"
    stored = pickle.dumps((TASK, None, (Bomb(mark),), {}))
    job_id = push(farm, data=zlib.compress(stored) if compress else stored)
    result = refused(farm, job_id)
    assert result.error.code == "job_refused"
    assert 'serializer="json"' in result.error.message
    assert not mark.exists()


def test_pickle_in_meta_is_left_untouched(farm, tmp_path):
    """The field is neither read nor rewritten; the job is fine otherwise."""
    farm.start()
    mark = tmp_path / "mark"
    meta = pickle.dumps({"a": Bomb(mark)})
    job_id = push(farm, data=data(), meta=meta, result=meta, exc_info=meta)
    assert farm.result(job_id).status == "succeeded"
    assert farm.connection.hget(job_key(job_id), "meta") == meta
    assert not mark.exists()


def test_pickle_in_the_meta_of_a_dependent_is_moved_unread(farm, tmp_path):
    """A dependent belongs to another program; we queue it without looking inside."""
    mark = tmp_path / "mark"
    queue = farm.queue()
    first = queue.enqueue(TASK, source=source("a"))
    other = Queue("elsewhere", connection=farm.connection)
    follower = other.enqueue("time.time", depends_on=first.id)
    meta = pickle.dumps({"a": Bomb(mark)})
    farm.connection.hset(follower.key, "meta", meta)
    farm.start(burst=True).wait()
    assert other.get_job_ids() == [follower.id]
    assert farm.connection.hget(follower.key, "meta") == meta
    assert not mark.exists()


def test_a_damaged_dependent_does_not_keep_a_job_from_ending(farm):
    """The transcript is stored, the dependent stays where it is."""
    queue = farm.queue()
    first = queue.enqueue(TASK, source=source("a"))
    follower = queue.enqueue(TASK, source=source("b"), depends_on=first.id)
    farm.connection.hset(follower.key, "status", "no such status")
    farm.start()
    assert farm.result(first.id).status == "succeeded"


def test_a_dependents_set_that_is_no_set_does_not_keep_a_job_from_ending(farm):
    """The same for a key of a wrong type."""
    queue = farm.queue()
    first = queue.enqueue(TASK, source=source("a"))
    farm.connection.set(first.dependents_key, "not a set")
    farm.start()
    assert farm.result(first.id).status == "succeeded"
    assert farm.commits() == {first.id: 1}


def test_a_damaged_job_that_waits_to_be_queued_does_not_end_the_worker(farm, monkeypatch):
    """RQ's own clean-up reads whole job hashes; ours survives what it finds there."""
    monkeypatch.setattr(farm_worker, "TIDY_EVERY_S", 0.01)
    push(farm, "damaged", status="no such status", data=data())
    farm.connection.zadd("rq:ready:default", {"damaged": 1})
    farm.start()
    (job_id,) = farm.submit(job("a"))
    assert farm.result(job_id).status == "succeeded"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("success_callback_name", "os.system"),
        ("failure_callback_name", "os.system"),
        ("stopped_callback_name", "os.system"),
        ("webhooks", '[{"url": "http://127.0.0.1:1/", "job_status": "finished"}]'),
        ("repeats_left", "3"),
        ("rate_limit_key", "tenant"),
    ],
)
def test_what_rq_offers_and_the_farm_does_not_do_is_refused_by_name(farm, field, value):
    """A callback that is silently not called would be worse than an error."""
    engine = FakeEngine()
    farm.start(engine)
    result = refused(farm, push(farm, data=data(), **{field: value}))
    assert result.error.code == "job_refused"
    assert field in result.error.context
    assert "hostile" not in [ticket.job_id for ticket in engine.seen]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("result_ttl", "0"),
        ("result_ttl", "-5"),
        ("failure_ttl", "0"),
        ("timeout", "0"),
        ("timeout", "1h"),
        ("timeout", b"\xff\xfe"),
        ("result_ttl", "9" * 5000),
    ],
)
def test_times_that_make_no_sense_are_refused(farm, field, value):
    """RQ would drop the result unread, or fail in the middle."""
    farm.start()
    result = refused(farm, push(farm, data=data(), **{field: value}))
    assert (result.error.code, field in result.error.context) == ("job_refused", True)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'["worker.tasks.transcribe"]',
        b"[" * 100_000,
        data(args=("a.wav",)),
        data(instance="x"),
        data(kwargs=["a"]),
        b"\x78\x9c" + b"\x00" * 100,
    ],
    ids=["empty", "broken", "null", "list", "short", "deep", "args", "instance", "kwargs", "zlib"],
)
def test_data_that_is_not_our_json_is_refused(farm, stored):
    """Whatever the bytes are, the worker lives on."""
    farm.start()
    assert refused(farm, push(farm, data=stored)).error.code == "job_refused"


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"source": ""}, {"source": "a", "loudness": 11}, {"source": "a" * 5000}, {"source": 7}],
)
def test_keyword_arguments_that_are_wrong_are_named(farm, kwargs):
    """A misspelt option is an error of the job, not ignored."""
    farm.start()
    assert refused(farm, push(farm, data=data(kwargs=kwargs))).error.code == "invalid_options"


def test_a_payload_of_ten_megabytes_is_refused_without_being_sent(farm):
    """The server says how long the field is, and keeps it."""
    farm.start()
    kwargs = {"source": "a", "metadata": {"x": "y" * 10_000_000}}
    result = refused(farm, push(farm, data=data(kwargs=kwargs)))
    assert result.error.code == "job_refused"
    assert "1048576 bytes" in result.error.message


def test_a_compressed_bomb_is_refused_while_it_is_small(farm):
    """A kilobyte that unpacks to a gigabyte never does."""
    farm.start()
    bomb = zlib.compress(zlib.compress(b"0" * 200_000_000))
    once = zlib.compress(data(kwargs={"source": "a", "metadata": {"x": "0" * 100_000_000}}), 9)
    assert len(once) < 1 << 20
    assert refused(farm, push(farm, data=once)).error.code == "job_refused"
    assert refused(farm, push(farm, "second", data=bomb)).error.code == "job_refused"


def test_counters_that_are_no_numbers_do_no_harm(farm):
    """A tampered history counts as none; the dead worker's job comes back all the same."""
    victim = farm.start_process()
    hostile = {"tries": "x", "deaths": "y", "attempts": "{\nnonsense\n", "retry_intervals": "["}
    job_id = push(
        farm, data=data(kwargs={"source": source("s", windows=20, window_s=0.1)}), **hostile
    )
    wait_until(lambda: farm.state(job_id) == "started")
    farm.connection.hset(job_key(job_id), mapping=hostile)
    victim.stop()
    farm.start()
    assert farm.result(job_id).status == "succeeded"


def test_a_job_key_that_is_no_hash_is_dropped(farm):
    """The claim goes on with the next job."""
    farm.connection.set(job_key("string"), "not a hash")
    farm.connection.rpush(queue_key("default"), "string", "ghost")
    farm.start()
    (job_id,) = farm.submit(job("a"))
    assert farm.result(job_id).status == "succeeded"


def test_a_stock_worker_that_runs_the_task_gets_a_reason(farm):
    """The task names the work; only the farm worker does it."""
    from rq import SimpleWorker

    queue = Queue("elsewhere", connection=farm.connection, serializer="json")
    stray = queue.enqueue(TASK, source="a.wav")
    SimpleWorker([queue], connection=farm.connection, serializer="json").work(burst=True)
    failed = RQJob.fetch(stray.id, farm.connection, serializer="json")
    assert failed.get_status() == "failed"
    assert "scribefarm-worker run" in failed.latest_result().exc_string


def test_the_servers_password_is_in_no_log_line_and_no_result(farm, tmp_path):
    """Neither when the server goes away nor when a job fails."""
    log = tmp_path / "log"
    assert farm.connection.config_set("requirepass", "s3cret-word")
    try:
        farm.connection.auth("s3cret-word")
        socket = farm.url.removeprefix("unix://")
        farm.url = f"unix://:s3cret-word@{socket}"
        farm.configure()
        worker = farm.start_process(log=log)
        job_id = push(farm, data=data(function="os.system"))
        result = farm.result(job_id)
        worker.stop()
    finally:
        farm.connection.config_set("requirepass", "")
    assert result.error.code == "job_refused"
    assert "s3cret-word" not in log.read_text() + result.model_dump_json()
    assert json.loads(farm.connection.get(result_key(job_id)))["status"] == "failed"
