"""What `scribefarm report` costs on a batch of a million files.

    python -m tests.benchmarks.bench_report [--files 1000000]

A real server is filled with jobs as a finished night leaves them: 40 recordings in hand at a time,
one in a hundred failed, one in fifty flagged, one in a thousand without text. Shown are the seconds
and the peak memory of the whole command, from its start to its end, for Markdown, JSON and a page.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producer.archive.submission_log import SubmissionLog
from producer.scripts import Scripts
from tests.benchmarks.bench_million import SHIPPED
from tests.stage.archive_farm import SCRIPT
from tests.stage.farm import make_settings, running_server

BATCH = "night"
NIGHT = 1_764_000_000
PAGE = 5000
FLAGS = ((), ("--json",), ("--format", "html"), ("--json", "--full"))


def fill(server, settings, num_files):
    client = server.client
    SubmissionLog(client, settings, BATCH).page_done()
    # Before all jobs, so that all were worked in this run.
    record_key = "scribefarm:submission:" + BATCH
    record = client.get(record_key).decode()
    client.set(record_key, _since_the_first(record), ex=86400)
    scripts = Scripts(client, Path(__file__).parent)
    for first in range(0, num_files, PAGE):
        count = min(PAGE, num_files - first)
        scripts.run("fill_night", batch=BATCH, first=first, count=count, began=NIGHT, ttl_s=86400)


def _since_the_first(record):
    fields = json.loads(record)
    return json.dumps(fields | {"run_started_at_s": 0.0, "ended_at_s": fields["began_at_s"] + 60})


def measure(settings, *flags):
    """Return a command's seconds, peak memory in MB, seconds of CPU and bytes printed."""
    code = (
        "import resource, subprocess, sys;"
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE);"
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(usage.ru_maxrss, usage.ru_utime + usage.ru_stime, len(done.stdout))"
    )
    command = [sys.executable, "-c", code, SCRIPT, "report", BATCH, *flags]
    started = time.monotonic()
    output = subprocess.check_output(command, env=os.environ | settings.to_environment())
    peak, cpu_s, num_bytes = output.split()
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - started, int(peak) * unit / 1e6, float(cpu_s), int(num_bytes)


def server_cpu_s(server):
    used = server.client.info("cpu")
    return used["used_cpu_user"] + used["used_cpu_sys"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1_000_000)
    num_files = parser.parse_args().files
    folder = Path(tempfile.mkdtemp(prefix="bench-report-"))
    try:
        with running_server(folder, "--appendonly", "no", *SHIPPED) as server:
            settings = make_settings(server.url)
            fill(server, settings, num_files)
            bytes_a_job = server.client.info("memory")["used_memory"] / num_files
            print(f"{num_files} files, {bytes_a_job:.0f} bytes a file in the server")
            for flags in FLAGS:
                before_s = server_cpu_s(server)
                wall_s, peak_mb, cpu_s, num_bytes = measure(settings, *flags)
                print(
                    f"report {' '.join(flags):14} {wall_s:6.2f} s; seconds of CPU: client "
                    f"{cpu_s:.2f}, server {server_cpu_s(server) - before_s:.2f}; "
                    f"{peak_mb:.0f} MB; {num_bytes / 1e6:.2f} MB printed",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
