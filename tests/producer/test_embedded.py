"""The embedded server: shared, private, and back with everything after a kill -9."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import psutil
import pytest
import redis

from producer import embedded
from producer.connection import connect
from producer.errors import ServerUnreachable
from producer.settings import Settings

START = """
import sys
from producer import embedded
from producer.settings import Settings
print("ready", flush=True)
sys.stdin.read(1)
settings = Settings(redis={"embedded_dir": sys.argv[1]})
embedded.ensure_running(settings)
print(embedded.status(settings).pid)
"""


@pytest.fixture
def own(embedded_dir):
    """Return settings of a server that only this test uses."""
    return Settings(redis={"embedded_dir": embedded_dir})


def servers_of(folder):
    """Return the live server processes whose data is in the folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and process.pid != os.getpid()
    ]


def test_two_starts_at_once_share_one_server(own, embedded_dir):
    """Six processes start together; all find the same server and only one exists."""
    command = [sys.executable, "-c", START, str(embedded_dir)]
    starters = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for starter in starters:
        assert starter.stdout.readline() == "ready\n"
    for starter in starters:
        starter.stdin.write("\n")
        starter.stdin.flush()
    pids = {starter.communicate(timeout=60)[0] for starter in starters}
    assert pids == {f"{embedded.status(own).pid}\n"}
    assert len(servers_of(embedded_dir)) == 1


def test_a_second_call_uses_the_running_server(own):
    """Starting is asking: a server that answers is left as it is."""
    embedded.ensure_running(own)
    before = embedded.status(own).pid
    embedded.ensure_running(own)
    assert embedded.status(own).pid == before


def test_after_kill_9_everything_is_there_again(own, wait_until):
    """What was acknowledged is in the append-only file: 1,000 keys of 1,000 come back."""
    with connect(own) as client:
        for number in range(1000):
            client.set(f"key:{number}", number)
    victim = psutil.Process(embedded.status(own).pid)
    victim.kill()
    wait_until(lambda: not embedded.status(own).running)
    with connect(own) as client:
        assert embedded.status(own).pid != victim.pid
        assert client.dbsize() == 1000
        assert client.get("key:999") == b"999"


def test_stop_loses_nothing_and_says_whether_there_was_a_server(own, embedded_dir):
    """Stopping is safe at any time, twice too."""
    with connect(own) as client:
        client.set("kept", "yes")
    assert embedded.stop(own) is True
    assert embedded.stop(own) is False
    assert servers_of(embedded_dir) == []
    with connect(own) as client:
        assert client.get("kept") == b"yes"


def test_only_our_user_can_reach_it(own, embedded_dir):
    """No port is open; folder and socket are closed to others."""
    path = embedded.ensure_running(own)
    assert stat.S_IMODE(embedded_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    server = psutil.Process(embedded.status(own).pid)
    assert server.net_connections(kind="inet") == []


def test_a_folder_open_to_others_is_refused_and_left_alone(embedded_dir):
    """We do not change the mode of a folder that is somebody's already."""
    embedded_dir.chmod(0o755)
    with pytest.raises(ServerUnreachable, match="mode 0700"):
        embedded.ensure_running(Settings(redis={"embedded_dir": embedded_dir}))
    assert stat.S_IMODE(embedded_dir.stat().st_mode) == 0o755
    embedded_dir.chmod(0o700)


@pytest.fixture
def squatter():
    """Return a function that makes a folder ours to find but another's to use, with a server."""
    servers, folders = [], []

    def squat(folder, socket_name):
        folder.mkdir(mode=0o700)
        folders.append(folder)
        if os.getuid() == 0:
            os.chown(folder, 12345, 12345)
        else:
            folder.chmod(0o777)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / socket_name))
        listener.listen()
        listener.setblocking(False)
        servers.append(listener)
        return listener

    yield squat
    for server in servers:
        server.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("ask", ["ensure_running", "status", "num_clients", "stop"])
def test_the_socket_of_another_user_is_never_asked_anything(squatter, tmp_path, monkeypatch, ask):
    """Its owner would read our jobs and hand us hers: the folder is looked at first."""
    data, taken = tmp_path / "data", tmp_path / "taken"
    data.mkdir(mode=0o700)
    listener = squatter(taken, "x.sock")
    monkeypatch.setattr(embedded, "socket_path", lambda _folder: taken / "x.sock")
    with pytest.raises(ServerUnreachable, match="our own user with mode 0700"):
        getattr(embedded, ask)(Settings(redis={"embedded_dir": data}))
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("ask", ["ensure_running", "status", "num_clients", "stop"])
def test_a_data_folder_of_another_user_is_refused_by_all(squatter, embedded_dir, ask):
    """The same holds where the socket lies among the data."""
    listener = squatter(embedded_dir / "data", "server.sock")
    with pytest.raises(ServerUnreachable, match="our own user with mode 0700"):
        getattr(embedded, ask)(Settings(redis={"embedded_dir": embedded_dir / "data"}))
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_what_is_no_socket_of_ours_is_refused(embedded_dir):
    """A link could lead to a socket of anybody's."""
    (embedded_dir / "server.sock").symlink_to("/run/elsewhere.sock")
    with pytest.raises(ServerUnreachable, match="must be a socket of our own user"):
        embedded.status(Settings(redis={"embedded_dir": embedded_dir}))
    (embedded_dir / "server.sock").unlink()


def test_a_deep_data_folder_gets_a_short_socket(embedded_dir):
    """Unix socket addresses end at 104 bytes on macOS; the data folder may be any length."""
    deep = embedded_dir / ("long-name-" * 9) / ("long-name-" * 9)
    settings = Settings(redis={"embedded_dir": deep})
    try:
        with connect(settings) as client:
            assert client.ping()
        path = embedded.status(settings).socket
        assert len(os.fsencode(path)) <= 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        embedded.stop(settings)


def test_a_frozen_server_is_named_and_no_second_one_is_started(own, embedded_dir, monkeypatch):
    """Two servers on one append-only file would ruin it; the lock is held as long as one lives."""
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 1.5)
    monkeypatch.setattr(embedded, "PING_TIMEOUT_S", 0.2)
    embedded.ensure_running(own)
    pid = embedded.status(own).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServerUnreachable, match=f"silent.*pid {pid}"):
            embedded.ensure_running(own)
        assert len(servers_of(embedded_dir)) == 1
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_any_server_program_the_way_out_is_told(own, monkeypatch):
    """The message has the command that installs one, and the setting to use instead."""
    monkeypatch.setattr(embedded, "_packaged_program", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerUnreachable, match=r"to install: make -C .* setup; .*redis\.url"):
        embedded.ensure_running(own)


def test_a_server_that_cannot_start_tells_why(own, embedded_dir):
    """The reason is in the message, not only in a log file."""
    folder = embedded_dir / "appendonlydir"
    folder.write_text("in the way")
    with pytest.raises(ServerUnreachable, match=r"must start; see .*server\.log"):
        embedded.ensure_running(own)


def test_a_server_installed_on_the_machine_serves_where_no_packaged_one_is(own, monkeypatch):
    """An installed Valkey or Redis is the second choice; its data stays with it."""
    packaged = embedded._packaged_program()
    monkeypatch.setattr(embedded, "_packaged_program", lambda: None)
    monkeypatch.setattr(embedded.shutil, "which", {"redis-server": packaged}.get)
    embedded.ensure_running(own)
    monkeypatch.setattr(embedded.shutil, "which", lambda name: None)
    embedded.stop(own)
    embedded.ensure_running(own)
    assert embedded.status(own).running


def test_the_server_outlives_the_process_that_started_it(own, embedded_dir):
    """A job handed in by one command is found by the next."""
    code = START.replace("sys.stdin.read(1)", "")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(embedded_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout == f"ready\n{embedded.status(own).pid}\n"
    assert embedded.status(own).running


def seconds_until_unreachable(**section):
    """Return how long `connect` takes to say that there is no server, and what it says."""
    began = time.monotonic()
    with pytest.raises(ServerUnreachable) as caught:
        connect(Settings(redis=section))
    return time.monotonic() - began, str(caught.value)


def test_a_wrong_address_is_told_at_once_without_the_password():
    """Nothing listens there: the message names the address."""
    taken_s, message = seconds_until_unreachable(url="redis://:hush@127.0.0.1:1/0")
    assert taken_s < 6
    assert "127.0.0.1:1" in message
    assert "hush" not in message


def test_a_silent_server_is_given_up_in_six_seconds():
    """A port that takes connections and never answers must not hold a command."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        taken_s, message = seconds_until_unreachable(url=f"redis://127.0.0.1:{port}")
    assert taken_s < 6
    assert f"127.0.0.1:{port}" in message


def test_a_server_of_another_kind_is_named():
    """A web server's port is no Redis."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        _, message = seconds_until_unreachable(url=f"redis://127.0.0.1:{port}")
        thread.join()
    assert f"127.0.0.1:{port}" in message


def test_a_wrong_password_is_told_without_showing_it(own):
    """The server is there but refuses us."""
    path = embedded.ensure_running(own)
    with redis.Redis(unix_socket_path=str(path)) as client:
        client.config_set("requirepass", "right")
        _, message = seconds_until_unreachable(url=f"unix://:hush@{path}")
        assert "hush" not in message
        client.execute_command("AUTH", "right")
        client.config_set("requirepass", "")
