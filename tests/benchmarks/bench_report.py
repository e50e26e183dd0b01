"""What `scribefarm report` costs on a batch of a million files.

    python -m tests.benchmarks.bench_report [--files 1000000]

A real server is filled with jobs as a finished night leaves them: 40 recordings in hand at a time,
one in a hundred failed, one in fifty flagged, one in a thousand without text. Shown are the seconds
and the peak memory of the whole command, from its start to its end, for Markdown and JSON.
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
from producer.keys import batch_key
from tests.stage.archive_farm import SCRIPT
from tests.stage.farm import make_settings, running_server

BATCH = "night"
PAGE = 5000
# Jobs as `commit` leaves them, made where they are kept: sending them would take minutes.
FILL = """
local first, count, began = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for i = first, first + count - 1 do
  local id = string.format('%032x', i)
  local failed = i % 100 == 7
  local start = began + math.floor(i / 40) * 1.2
  local function at(seconds)
    local day = math.floor(seconds / 86400)
    local rest = seconds - day * 86400
    return string.format('2026-11-%02dT%02d:%02d:%02d.%06dZ', 1 + day, math.floor(rest / 3600),
      math.floor(rest / 60) % 60, math.floor(rest % 60), math.floor((rest % 1) * 1e6))
  end
  redis.call('HSET', 'rq:job:' .. id, 'created_at', at(0), 'enqueued_at', at(0), 'origin',
    'default', 'data', string.rep('x', 250), 'status', failed and 'failed' or 'finished',
    'ttl', '604800', 'result_ttl', '7776000', 'failure_ttl', '7776000', 'worker_name',
    'mac-' .. (i % 40), 'started_at', at(start), 'ended_at', at(start + 1.1), 'code',
    failed and 'corrupt_audio' or '', 'audio_s', failed and '0' or '45.500', 'num_flagged',
    i % 50 == 3 and '2' or '0', 'is_empty', i % 1000 == 9 and '1' or '0', 'flags', '', 'model',
    failed and '' or 'turbo@main')
  redis.call('HSET', KEYS[1], string.format('archive/2026/tape %07d.wav', i), id)
end
"""


def fill(server, settings, num_files):
    client = server.client
    SubmissionLog(client, settings, BATCH).page_done()
    # Before all jobs, so that all were worked in this run.
    record_key = "scribefarm:submission:" + BATCH
    record = client.get(record_key).decode()
    client.set(record_key, _since_the_first(record), ex=3600)
    script = client.register_script(FILL)
    for first in range(0, num_files, PAGE):
        script(keys=[batch_key(BATCH)], args=[first, min(PAGE, num_files - first), 3600])


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
        with running_server(folder, "--appendonly", "no") as server:
            settings = make_settings(server.url)
            fill(server, settings, num_files)
            bytes_a_job = server.client.info("memory")["used_memory"] / num_files
            print(f"{num_files} files, {bytes_a_job:.0f} bytes a file in the server")
            for flags in ((), ("--json", "--full")):
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
