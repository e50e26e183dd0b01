"""One batch of a million jobs: what `status`, `watch` and `results --follow` cost.

    python -m tests.benchmarks.bench_million [NUM_JOBS]

A real server with the shipped settings, one batch that waits, and 64 of its jobs in hand. Each
command's work runs in a process of its own, so that its memory is its own; the server's share is
its CPU time over the time that a `watch` of one look a second takes.
"""

import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producer.batches.counts import read_tally
from producer.batches.views import batch_files, note_batch
from producer.batches.watching import batch_status
from producer.cli.status_lines import farm_lines
from producer.connection import connect
from producer.fleet import farm_status
from producer.job import Job
from producer.pending import PendingJobs
from producer.queue import submit
from producer.settings import Settings
from producer.waiting import RECHECK_S, wait_for_results
from tests.stage.farm import running_server
from worker.farm.scripts import FarmScripts

# As deploy/redis/redis.conf and the embedded server have it.
SHIPPED = ("--hash-max-listpack-value", "1024", "--stream-node-max-bytes", "512")
BATCH = "archive-20251123-2200"
NUM_IN_HAND = 64


def fill(settings, num_jobs):
    connection = connect(settings)
    jobs = (
        Job(
            source=f"/volumes/archive/{n // 1000:04}/talk number {n:07}.wav",
            name=f"{n // 1000:04}/talk number {n:07}.wav",
            batch=BATCH,
            audio_sha256=f"{n:064x}",
        )
        for n in range(num_jobs)
    )
    empty = connection.info("memory")["used_memory"]
    note_batch(connection, settings, BATCH)
    started = time.perf_counter()
    submit(connection, settings, jobs)
    took_s = time.perf_counter() - started
    used = connection.info("memory")["used_memory"] - empty
    FarmScripts(connection, settings, "bench", [(settings.model.name, None)]).claim(
        NUM_IN_HAND, suspects=0
    )
    return {"submitted_per_s": round(num_jobs / took_s), "bytes_a_job": round(used / num_jobs)}


def cpu_s(connection):
    found = connection.info("cpu")
    return found["used_cpu_sys"] + found["used_cpu_user"]


def do_status(connection, settings):
    started = time.perf_counter()
    farm = farm_status(connection, settings)
    list(farm_lines(farm))
    return {"status_s": time.perf_counter() - started}


def do_watch(connection, settings):
    took, before, began = [], cpu_s(connection), time.perf_counter()
    for _ in range(20):
        started = time.perf_counter()
        batch_status(connection, settings, BATCH)
        took.append(time.perf_counter() - started)
        time.sleep(max(0.0, 1.0 - took[-1]))
    share = (cpu_s(connection) - before) / (time.perf_counter() - began)
    return {"watch_refresh_s": max(took), "watch_share_of_server": share}


def do_recount(connection, settings):
    del settings
    started = time.perf_counter()
    read_tally(connection, BATCH, anew=True)
    return {"recount_s": time.perf_counter() - started}


class _Enough(Exception):
    """The follower has waited long enough."""


class _Looks:
    """An `on_tick` that notes when the first look was over, and ends the wait three slices later."""

    def __init__(self, connection):
        self._connection, self._began = connection, time.perf_counter()
        self.first_look_s = self._cpu_s = 0.0

    def __call__(self, _pending):
        so_far_s = time.perf_counter() - self._began
        if not self.first_look_s:
            self.first_look_s, self._cpu_s = so_far_s, cpu_s(self._connection)
        elif so_far_s - self.first_look_s > 3 * RECHECK_S:
            raise _Enough

    def share(self):
        waited_s = time.perf_counter() - self._began - self.first_look_s
        return (cpu_s(self._connection) - self._cpu_s) / waited_s


def do_follow(connection, settings):
    """Read the batch, look each job up once, then wait through three slices."""
    del settings
    started = time.perf_counter()
    with PendingJobs() as pending:
        pending.add(batch_files(connection, BATCH))
        read_s, looks = time.perf_counter() - started, _Looks(connection)
        with contextlib.suppress(_Enough):
            list(wait_for_results(connection, pending, on_tick=looks))
    return {
        "follow_read_s": read_s,
        "follow_first_look_s": looks.first_look_s,
        "follow_share_of_server": looks.share(),
    }


COMMANDS = {"status": do_status, "watch": do_watch, "recount": do_recount, "follow": do_follow}


def run_once(name, url):
    """Run one command in this process and print what it took, as JSON."""
    settings = Settings(redis={"url": url})
    took = COMMANDS[name](connect(settings), settings)
    figures = {name: round(value, 4) for name, value in took.items()}
    print(json.dumps(figures | {"client_mb": round(peak_bytes() / 1e6)}))


def peak_bytes():
    """Return the most memory that this program has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: that begins with the memory of the process that started this one.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(num_jobs):
    with (
        tempfile.TemporaryDirectory(prefix="sf-million-") as folder,
        running_server(Path(folder), *SHIPPED) as server,
    ):
        settings = Settings(redis={"url": server.url})
        version = server.client.info("server")
        print(
            f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores, "
            f"{version.get('server_name', 'redis')} "
            f"{version.get('valkey_version', version['redis_version'])}, {num_jobs} jobs"
        )
        print(json.dumps(fill(settings, num_jobs)), flush=True)
        for name in COMMANDS:
            command = [sys.executable, "-m", "tests.benchmarks.bench_million", "--once", name]
            subprocess.run([*command, server.url], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        run_once(*sys.argv[2:])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
