"""The shipped users.acl on a real server: what producer, worker and relay may do, and what not."""

import hashlib
import os
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
import redis
import typer
from rq import Queue
from rq.command import send_stop_job_command

from producer.__main__ import app
from producer.batches.actions import cancel_jobs, retry_jobs
from producer.batches.views import note_batch
from producer.connection import connect
from producer.errors import ServerUnreachable
from producer.fleet import live_workers, pause, resume
from producer.job import Job
from producer.keys import batch_key
from producer.queue import job_state, read_progress, read_result, submit
from producer.source import upload_source
from producer.uploads import upload
from producer.waiting import wait_for_results
from tests.producer.test_webhooks import SECRET, Receiver
from tests.stage.fake_engine import FakeEngine, job, source
from tests.stage.farm import Farm, Server, ThreadWorker, make_settings, wait_until
from tests.web.conftest import Page
from worker.sources.fetch import Fetch

ACL = Path(__file__).resolve().parent.parent / "deploy" / "redis" / "users.acl"

NOBODY_MAY = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "evil", "on", "nopass", "+@all"),
    ("SHUTDOWN", "NOSAVE"),
    ("DEBUG", "SLEEP", "0"),
    ("MONITOR",),
    ("SAVE",),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("MODULE", "LIST"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SLOWLOG", "GET"),
    ("SWAPDB", "0", "1"),
    ("MIGRATE", "127.0.0.1", "1", "rq:queues", "0", "1"),
    ("RESTORE", "rq:job:x", "0", "x"),
    ("DUMP", "rq:job:x"),
    ("RENAME", "rq:job:x", "rq:job:y"),
    ("SET", "another:application", "1"),
    ("GET", "another:application"),
    ("EVAL", "return redis.call('GET', 'another:application')", "0"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
    ("PUBLISH", "another-channel", "x"),
]
A_PRODUCER_MAY_NOT = [
    ("ZADD", "rq:wip:default", "1", "job:execution"),
    ("HSET", "rq:worker:a", "state", "busy"),
    ("SADD", "rq:workers", "rq:worker:a"),
    ("HSET", "rq:execution:a:b", "id", "b"),
    ("LPOP", "rq:queue:default"),
    ("SUBSCRIBE", "rq:pubsub:a"),
]
A_WORKER_MAY_NOT = [("PUBLISH", "rq:pubsub:a", "x"), ("XRANGE", "scribefarm:events", "-", "+")]
A_RELAY_MAY_NOT = [
    ("HGET", "scribefarm:upload:a", "0"),
    ("GET", "scribefarm:result:a"),
    ("HGETALL", "rq:job:a"),
    ("XADD", "scribefarm:events", "*", "job_id", "forged"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "scribefarm:batches", ">"),
    ("EVAL", "return 1", "0"),
    ("SUBSCRIBE", "rq:pubsub:a"),
]
MAY_NOT = {
    "producer": A_PRODUCER_MAY_NOT,
    "worker": A_WORKER_MAY_NOT,
    "relay": A_RELAY_MAY_NOT,
}


@pytest.fixture
def url_of(tmp_path):
    """Return a function that gives a user's address on a server with the shipped users."""
    with _server_with_users(tmp_path) as server:
        yield lambda user: f"redis://{user}:CHANGE-{user}@127.0.0.1:{server.port}"


class _AuthenticatedServer(Server):
    def answers(self):
        try:
            return redis.Redis.from_url(
                f"redis://worker:CHANGE-worker@127.0.0.1:{self.port}"
            ).ping()
        except redis.RedisError:
            return False


def _server_with_users(folder):
    users = folder / "users.acl"
    shutil.copy(ACL, users)

    class Context:
        def __enter__(self):
            self.server = _AuthenticatedServer(folder / "server", "--aclfile", str(users))
            return self.server

        def __exit__(self, *_):
            self.server.stop()

    return Context()


def test_an_upload_passes_from_a_producer_to_a_worker(url_of, tmp_path):
    """Piece by piece, and a second one only lives on."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"audio")
    digest = hashlib.sha256(b"audio").hexdigest()
    producing, working = make_settings(url_of("producer")), make_settings(url_of("worker"))
    with connect(producing) as connection:
        for _ in range(2):
            upload(connection, path, digest, producing.audio)
    job = Job(source=upload_source(digest, "a.wav"), audio_sha256=digest)
    with os.fdopen(Fetch(working)(job, lambda: None), "rb") as file:
        assert file.read() == b"audio"


def test_the_users_can_do_all_of_their_work(url_of):
    """Submit, run, retry, cancel, depend, stop, pause: with nothing but the shipped rights."""
    producing, working = make_settings(url_of("producer")), make_settings(url_of("worker"))
    connection = connect(producing)
    worker = ThreadWorker(working, FakeEngine())
    try:
        jobs = [job(f"a{n}").model_copy(update={"batch": "b"}) for n in range(5)]
        jobs.append(job("flaky", windows=4, error="source_unreachable", error_at=2, once=1))
        jobs.append(job("bad", error="corrupt_audio"))
        job_ids = [each.job_id for each in submit(connection, producing, jobs)]
        results = {each.job_id: each for each in wait_for_results(connection, job_ids, 20)}
        assert [results[each].status for each in job_ids] == ["succeeded"] * 6 + ["failed"]
        assert list(retry_jobs(connection, producing, job_ids[-1:])) == job_ids[-1:]
        wait_until(lambda: job_state(connection, job_ids[-1]) == "failed")
        assert [live.name for live in live_workers(connection, producing)] == [worker.worker.name]
        pause(connection)
        queue = Queue("default", connection=connection, serializer="json")
        slow = queue.enqueue(
            "worker.tasks.transcribe", source=source("s", windows=1000), job_id="slow", unique=True
        )
        follower = Queue("mail", connection=connection).enqueue("time.time", depends_on=slow)
        later = queue.enqueue_in(timedelta(hours=1), "worker.tasks.transcribe", source="x")
        assert [each.outcome for each in cancel_jobs(connection, producing, [later.id])] == [
            "cancelled"
        ]
        resume(connection)
        wait_until(lambda: read_progress(connection, [slow.id]))
        send_stop_job_command(connection, slow.id, serializer="json")
        assert wait_until(lambda: read_result(connection, slow.id)).error.code == "cancelled"
        assert follower.get_status() == "deferred"
    finally:
        worker.stop()
        connection.close()


@pytest.mark.parametrize("user", list(MAY_NOT))
def test_the_users_may_do_nothing_else(url_of, user):
    """Each of the listed commands is denied, by name."""
    client = redis.Redis.from_url(url_of(user))
    for command in NOBODY_MAY + MAY_NOT[user]:
        with pytest.raises(redis.ResponseError) as caught:
            client.execute_command(*command)
        message = str(caught.value)
        assert re.search(r"no permissions|No permissions|can't access|not allowed", message), (
            command,
            message,
        )
    client.close()


def test_without_a_password_nobody_gets_in(url_of):
    """The default user is off."""
    address = url_of("producer").replace("producer:CHANGE-producer@", "")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(address).ping()
    with pytest.raises(ServerUnreachable):
        connect(make_settings(address))


def all_commands(group=None, above=()):
    """Return every command of the program, as the words that call it."""
    group = group or typer.main.get_command(app)
    found = []
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found += all_commands(command, (*above, name)) if inner else [(*above, name)]
    return found


def asked(job_id, recording, folder, hook, worker):
    """Return what each command is asked: its further words and its exit code."""
    return {
        ("submit",): [
            ((recording, "--batch", "b"), 0),
            ((recording, "--batch", "b", "--dry-run"), 0),
        ],
        ("transcribe",): [((recording,), 0)],
        ("result",): [((job_id, "--wait"), 0)],
        ("results",): [(("--output-dir", folder / "out"), 0)],
        ("watch",): [(("b",), 0)],
        ("plan",): [(("--hours", "9", "--speed", "30"), 0)],
        ("status",): [((), 0), (("b",), 0)],
        ("report",): [((), 0), (("--since", "last"), 0)],
        ("errors",): [((), 0)],
        ("retry",): [((), 0), (("b",), 0)],
        ("cancel",): [(("b",), 0), ((job_id,), 0)],
        ("pause",): [(("--for", "8h"), 0), ((worker, "--for", "8h"), 0)],
        ("resume",): [((worker,), 0), ((), 0)],
        ("events",): [((), 0)],
        ("workers",): [((), 0)],
        ("metrics",): [(("--once",), 0)],
        ("relay",): [(("--url", hook, "--from-start", "--once"), 0)],
        # What it serves: below.
        ("web",): [(("--listen", "0.0.0.0:0"), 2)],
        ("config",): [((), 0)],
        ("models",): [((), 0), (("fetch",), 2)],
        ("server", "status"): [((), 0)],
        ("server", "stop"): [((), 2)],
        ("deploy", "files"): [((folder / "farm",), 0)],
        ("drain",): [((worker,), 0)],
    }


def test_every_command_works_with_the_shipped_users(url_of, scribefarm, write_wav, tmp_path):
    """All as producer, but `relay` as relay; the worker is the shipped one."""
    receiver, recording = Receiver(), write_wav("a.wav")
    settings = make_settings(url_of("producer"))
    worker = ThreadWorker(make_settings(url_of("worker")), FakeEngine())
    users = {user: make_settings(url_of(user)).to_environment() for user in ("producer", "relay")}
    first = scribefarm("submit", recording, "--batch", "b", **users["producer"])
    assert first.returncode == 0, first.stderr
    arguments = asked(first.stdout.strip(), recording, tmp_path, receiver.url, worker.worker.name)
    try:
        assert set(arguments) == set(all_commands())
        for command, calls in arguments.items():
            user = "relay" if command == ("relay",) else "producer"
            for words, code in calls:
                done = scribefarm(*command, *words, **users[user], WEBHOOK_SECRET=SECRET)
                assert "permission" not in done.stderr, (command, done.stderr)
                assert done.returncode == code, (command, done.stdout, done.stderr)
        assert len(receiver.received) == 1
        with connect(settings) as connection:
            assert connection.exists(batch_key("b"))
    finally:
        worker.stop()
        receiver.stop()


def test_the_page_shows_and_does_all_as_a_producer(url_of, tmp_path):
    """It reads what a producer may read, and retries, cancels, pauses and drains as one."""
    farm = Farm.over(make_settings(url_of("producer")))
    worker = ThreadWorker(make_settings(url_of("worker")), FakeEngine())
    named = {"batch": "b", "name": "a.wav"}
    (bad,) = farm.submit(job("bad", error="corrupt_audio").model_copy(update=named))
    wait_until(lambda: job_state(farm.connection, bad) == "failed")
    note_batch(farm.connection, farm.settings, "b")
    page = Page(farm, tmp_path, allow_actions=True)
    try:
        with page.client:
            page.index("b")
            name = worker.worker.name
            asked = ["/", "/all-batches", "/batch?name=b", "/search?batch=b&q=a", "/workers"]
            for path in (*asked, f"/worker?name={name}", f"/recording?job={bad}"):
                assert page.get(path).status_code == 200, path
            for action in ("pause", "resume", "retry", "cancel", "drain"):
                data = {"batch": "b", "worker": name}
                assert page.client.post(f"/actions/{action}", data=data).status_code == 303
    finally:
        page.close()
        worker.stop()
        farm.stop()
