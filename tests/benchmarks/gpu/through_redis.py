"""Ours through the farm: `scribefarm-worker run` and a Valkey server on the same machine.

    python -m tests.benchmarks.gpu.through_redis [--slots 192] [--jobs 1600] [--recordings FOLDER]

All jobs wait before the worker starts. What counts are the commits from `--warm` seconds after the
first one until `--seconds` later, or until the queue is empty. The recordings are those of files.py;
a number among the metadata makes each job another one.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producer import embedded
from producer.connection import connect
from producer.job import Job
from producer.keys import EVENTS_KEY
from producer.queue import read_results, submit
from producer.result import Transcript
from tests.benchmarks.gpu.engine_run import cpu_s, windows_per_s
from tests.benchmarks.gpu.files import engine_parser, engine_settings
from tests.benchmarks.gpu.ours import every_window_alike, write_model
from tests.benchmarks.gpu.shapes import WINDOW_S, leave, tell
from tests.benchmarks.gpu.speech import write_copies

POLL_S = 0.5


def commits(connection):
    """Return when each job was committed, seconds since the epoch, and its id, in order."""
    entries = connection.xrange(EVENTS_KEY)
    ends = ((entry, fields) for entry, fields in entries if b"kind" not in fields)
    return [(int(entry.split(b"-")[0]) / 1e3, fields[b"job_id"].decode()) for entry, fields in ends]


def enqueue(connection, settings, arguments, folder):
    """Enqueue a job for each copy of the recordings; return how many."""
    started = time.perf_counter()
    sources = sorted(arguments.recordings.glob("*.flac"))
    paths = write_copies(sources, folder, arguments.jobs)
    written = time.perf_counter()
    options = every_window_alike(arguments.shapes)
    jobs = [Job(source=str(path), options=options) for path in paths]
    submitted = submit(connection, settings, jobs)
    new = sum(each.is_new for each in submitted)
    tell(
        {
            "jobs": new,
            "written_s": round(written - started, 1),
            "submitted_s": round(time.perf_counter() - written, 1),
        }
    )
    return new


def wait_for(connection, worker, num_jobs, arguments):
    """Wait until the steady time is over; return its ends, and processor seconds in it."""
    first = None
    before = taken_from = None
    while True:
        if worker.poll() is not None:
            raise SystemExit(f"the worker ended with {worker.returncode}")
        done = connection.xlen(EVENTS_KEY)
        now = time.perf_counter()
        if first is None and done:
            first = now
            tell({"first_commit_s": round(now - arguments.started, 1)})
        if first is not None and before is None and now > first + arguments.warm:
            taken_from, before = now, cores_used(connection, worker)
        over = before is not None and now > taken_from + arguments.seconds
        if over or done >= num_jobs:
            after = cores_used(connection, worker)
            break
        time.sleep(POLL_S)
    before = before or after
    taken = max(POLL_S, now - (taken_from or now))
    cores = {name: round((after[name] - before[name]) / taken, 3) for name in after}
    ends = commits(connection)
    return [end for end in ends if end[0] >= ends[0][0] + arguments.warm], cores


def cores_used(connection, worker):
    """Return seconds of processor so far: of the worker, and of the server."""
    info = connection.info("cpu")
    return {
        "worker": cpu_s(Path(f"/proc/{worker.pid}")),
        "server": info["used_cpu_user"] + info["used_cpu_sys"],
    }


def figures(connection, ends, cores):
    """Return what was committed in the steady time."""
    results = list(read_results(connection, [job_id for _, job_id in ends]))
    failed = [each for each in results if not isinstance(each, Transcript)]
    if failed or not results:
        raise SystemExit(f"{len(failed)} of {len(results)} jobs failed, as {failed[:1]}")
    counted = [(at, each.timing.windows) for (at, _), each in zip(ends, results, strict=True)]
    rate = windows_per_s(counted)
    return {
        "times_real_time": round(rate * WINDOW_S),
        "windows_per_s": round(rate, 2),
        "recordings": len(ends),
        "steady_s": round(ends[-1][0] - ends[0][0], 1),
        "cores": cores,
    }


def run(arguments, folder):
    """Start server and worker, and tell what the worker commits."""
    # On a real disk a server syncs once a second; so does this one, in memory.
    section = {"embedded_dir": folder / "server"}
    settings = engine_settings(arguments, redis=section, log={"level": "warning"})
    connection = connect(settings)
    worker = None
    try:
        num_jobs = enqueue(connection, settings, arguments, folder / "archive")
        arguments.started = time.perf_counter()
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker", "run", "--name", "bench"],
            env=os.environ | settings.to_environment(),
            stdout=sys.stderr,
        )
        ends, cores = wait_for(connection, worker, num_jobs, arguments)
        left = num_jobs - len(commits(connection))
        tell({"slots": arguments.slots, "jobs_left": left, **figures(connection, ends, cores)})
    finally:
        if worker is not None:
            worker.kill()
            worker.wait()
        embedded.stop(settings)


def main():
    flags = engine_parser(__doc__)
    flags.add_argument("--jobs", type=int, default=1600)
    flags.set_defaults(seconds=30)
    arguments = flags.parse_args()
    write_model(arguments.model, arguments.shapes)
    with tempfile.TemporaryDirectory(dir=arguments.recordings.parent) as folder:
        run(arguments, Path(folder))
    leave()


if __name__ == "__main__":
    main()
