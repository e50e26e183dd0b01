"""What we rely on in RQ 3.0: its key layout, and programs that know RQ and nothing of us."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest
from rq import SimpleWorker
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE, Execution, ExecutionRegistry
from rq.job import Dependency
from rq.job import Job as RQJob
from rq.registry import (
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import str_to_date, utcformat
from rq.worker import BaseWorker
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from producer import keys
from producer.keys import queue_key, registry_key
from producer.queue import job_key, result_key
from producer.rq_data import format_time, parse_time
from producer.scripts import Scripts
from tests.stage.fake_engine import expected_text, job, source
from tests.stage.farm import wait_until
from worker.farm.job_hash import ALLOWED_FUNCTIONS
from worker.farm.scripts import FIELDS, FarmScripts
from worker.tasks import transcribe

TASK = "worker.tasks.transcribe"

# An RQ program of somebody else's, which knows the task's name and nothing else of ours.
STRANGER = """
import json, sys
from redis import Redis
from rq import Queue

connection = Redis(unix_socket_path=sys.argv[1])
queue = Queue("default", connection=connection, serializer="json")
first = queue.enqueue("worker.tasks.transcribe", source=sys.argv[2])
elsewhere = Queue("mail", connection=connection, serializer="json")
follower = elsewhere.enqueue("stranger_tasks.count_words", first.id, depends_on=first)
print(json.dumps([first.id, follower.id]))
"""
STRANGER_TASKS = """
import json
from rq import get_current_job

def count_words(transcription_id):
    job = get_current_job()
    pointer = type(job).fetch(transcription_id, job.connection, serializer="json").return_value()
    transcript = json.loads(job.connection.get(pointer["result_key"]))
    return len(transcript["text"].split())
"""


def test_prefix_and_times_are_those_of_rq():
    """They are written here again, since importing RQ takes a tenth of a second."""
    assert keys.RQ_KEY_PREFIX == RQ_KEY_PREFIX
    for seconds in (0.0, 1763867000.25, 1763867000.000001):
        moment = datetime.fromtimestamp(seconds, UTC)
        assert format_time(seconds) == utcformat(moment)
        assert parse_time(format_time(seconds)) == parse_time(utcformat(moment).encode()) == seconds
    assert parse_time("2025-11-23T03:03:20Z") == str_to_date("2025-11-23T03:03:20Z").timestamp()
    for wrong in ("Z", "2025-11-23T03:03:20", "yesterdayZ"):
        with pytest.raises(ValueError, match=wrong):
            parse_time(wrong)


def test_rq_is_the_minor_version_that_the_scripts_were_written_for():
    """The farm works on RQ's keys; another minor version may lay them out differently."""
    assert version("rq").startswith("3.0.")


def test_our_key_names_are_those_of_rq(farm):
    """Each name is made by RQ's own code on the left and by ours on the right."""
    assert RQJob.key_for("j") == job_key("j")
    assert farm.queue().key == queue_key("default")
    registries = {
        "wip": StartedJobRegistry,
        "finished": FinishedJobRegistry,
        "failed": FailedJobRegistry,
        "scheduled": ScheduledJobRegistry,
    }
    for name, registry in registries.items():
        assert registry("q", farm.connection).key == registry_key(name, "q")
    execution = Execution("e", "j", farm.connection, "w")
    assert execution.key == f"{RQ_KEY_PREFIX}:execution:j:e"
    assert execution.composite_key == "j:e"
    assert ExecutionRegistry("j", farm.connection).key == f"{RQ_KEY_PREFIX}:executions:j"
    assert WORKER_EXECUTIONS_KEY_TEMPLATE.format("w") == f"{RQ_KEY_PREFIX}:worker:w:executions"
    assert BaseWorker.redis_worker_namespace_prefix == f"{RQ_KEY_PREFIX}:worker:"
    assert f"{RQ_KEY_PREFIX}:workers" == REDIS_WORKER_KEYS
    assert f"{RQ_KEY_PREFIX}:workers:q" == WORKERS_BY_QUEUE_KEY % "q"
    assert f"{RQ_KEY_PREFIX}:suspended" == WORKERS_SUSPENDED


def test_the_fields_that_we_read_are_those_that_rq_writes(farm):
    """A renamed field would be read as absent, and a request ignored."""
    ours = {
        "attempts",
        "tries",
        "deaths",
        "excused",
        "lost_worker",
        "cancel",
        "drifted",
        "traceparent",
    }
    from rq import Callback, Repeat, Retry
    from rq.rate_limit import RateLimit
    from rq.webhook import Webhook

    rich = farm.queue().enqueue(
        TASK,
        source="a",
        retry=Retry(max=2, interval=[1, 2]),
        repeat=Repeat(times=2),
        on_success=Callback("time.time"),
        on_failure=Callback("time.time"),
        on_stopped=Callback("time.time"),
        result_ttl=5,
        failure_ttl=6,
        job_timeout=7,
        webhooks=[Webhook("http://127.0.0.1:1/", "finished")],
    )
    limited = farm.queue().enqueue(TASK, source="a", rate_limit=RateLimit("k", 1))
    written = set(farm.connection.hkeys(rich.key)) | set(farm.connection.hkeys(limited.key))
    assert set(FIELDS) - ours - {field.decode() for field in written} == set()


def test_the_scripts_write_times_as_rq_reads_them(farm):
    """Server time in RQ's format, for jobs and workers."""
    (job_id,) = farm.submit(job("a"))
    scripts = FarmScripts(farm.connection, farm.settings, "w", [("fake", None)])
    (claim,) = scripts.claim(1, suspects=1)
    started = str_to_date(farm.field(job_id, "started_at")).timestamp()
    assert abs(started - claim.claimed_at_s) < 0.001


@pytest.mark.parametrize("seconds", [0, 951_782_400, 1_709_164_800.25, 4_102_444_799.999999])
def test_the_scripts_calendar_is_right(farm, tmp_path, seconds):
    """Leap days and ends of years, against Python's calendar."""
    from datetime import UTC, datetime

    (tmp_path / "stamp.lua").write_text("return stamp(args.seconds)")
    stamped = Scripts(farm.connection, tmp_path).run("stamp", seconds=seconds).decode()
    expected = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert stamped.startswith(expected)


def test_the_task_that_jobs_name_exists():
    """The name in job hashes is the name of the function."""
    assert {f"{transcribe.__module__}.{transcribe.__qualname__}"} == ALLOWED_FUNCTIONS


def test_a_strangers_rq_program_enqueues_a_recording_and_a_job_that_reads_the_text(
    farm, tmp_path, monkeypatch
):
    """The follow-up runs in a stock worker, on another queue, after the farm's commit."""
    (tmp_path / "stranger_tasks.py").write_text(STRANGER_TASKS)
    recording = source("talk", windows=5)
    program = [sys.executable, "-c", STRANGER, farm.url.removeprefix("unix://"), recording]
    enqueued = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)
    first_id, follower_id = json.loads(enqueued.stdout)
    mail = farm.queue("mail")
    assert mail.get_job_ids() == []
    farm.start()
    assert farm.result(first_id).text == expected_text(recording)
    wait_until(lambda: mail.get_job_ids() == [follower_id])
    monkeypatch.syspath_prepend(str(tmp_path))
    SimpleWorker([mail], connection=farm.connection, serializer="json").work(burst=True)
    follower = RQJob.fetch(follower_id, farm.connection, serializer="json")
    assert follower.return_value() == 5


def test_a_dependent_that_allows_failure_runs_after_a_failed_recording_and_another_does_not(farm):
    """RQ's rules for dependents hold for the farm's jobs."""
    queue, mail = farm.queue(), farm.queue("mail")
    bad = queue.enqueue(TASK, source=source("bad", error="corrupt_audio"))
    lenient = mail.enqueue("time.time", depends_on=Dependency(bad, allow_failure=True))
    strict = mail.enqueue("time.time", depends_on=bad)
    farm.start(burst=True).wait()
    assert mail.get_job_ids() == [lenient.id]
    assert strict.get_status() == "deferred"


def test_a_recording_may_depend_on_another_programs_job(farm):
    """`depends_on` works in both directions."""
    mail = farm.queue("mail")
    download = mail.enqueue("time.time")
    waiting = farm.queue().enqueue(TASK, source=source("a"), depends_on=download)
    farm.start()
    SimpleWorker([mail], connection=farm.connection, serializer="json").work(burst=True)
    assert farm.result(waiting.id).status == "succeeded"


@pytest.mark.parametrize(("option", "bad"), [("result_ttl", ""), ("failure_ttl", "corrupt_audio")])
def test_ttls_that_an_rq_program_asks_for_are_honoured(farm, option, bad):
    """On the result, on the job's hash and in RQ's own stream."""
    farm.start()
    asked = farm.queue().enqueue(TASK, source=source("a", error=bad), **{option: 77})
    farm.result(asked.id)
    keys = (result_key(asked.id), asked.key, f"{RQ_KEY_PREFIX}:results:{asked.id}")
    assert all(0 < farm.connection.ttl(key) <= 77 for key in keys)


def test_a_waiting_job_expires_by_its_ttl_and_a_running_one_does_not(farm):
    """A claim ends the job's own time to live; its entry in the queue does no harm."""
    (running,) = farm.submit(job("r"))
    FarmScripts(farm.connection, farm.settings, "w", [("fake", None)]).claim(1, suspects=1)
    assert farm.connection.ttl(job_key(running)) == -1
    short = farm.queue().enqueue(TASK, source=source("a"), ttl=1)
    wait_until(lambda: not farm.connection.exists(short.key))
    farm.start(burst=True).wait()
    assert short.id not in farm.commits()


def test_job_ids_registries_and_counters_are_readable_by_rq(farm):
    """A finished and a failed job stand where RQ looks for them."""
    worker = farm.start()
    good, bad = farm.submit(job("a"), job("b", error="corrupt_audio"))
    farm.result(good)
    farm.result(bad)
    queue = farm.own_queue()
    assert queue.finished_job_registry.get_job_ids() == [good]
    assert queue.failed_job_registry.get_job_ids() == [bad]
    counts = farm.connection.hmget(worker.worker.key, "successful_job_count", "failed_job_count")
    assert counts == [b"1", b"1"]
    stored = RQJob.fetch(bad, farm.connection, serializer="json")
    assert stored.latest_result().exc_string.startswith("corrupt_audio: ")
    assert stored.ended_at >= stored.started_at


def test_the_lua_files_are_part_of_the_package():
    """They are read from the package's folder at the start."""
    folder = Path(FarmScripts.__init__.__globals__["LUA_FOLDER"])
    names = {path.stem for path in folder.glob("*.lua")}
    assert names == {
        "leases",
        "claim",
        "heartbeat",
        "progress",
        "leave",
        "sweep",
        "reap",
        "release",
        "due",
        "count",
        "set_aside",
    }
