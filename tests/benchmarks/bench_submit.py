"""Submits many paths and prints rate and memory: it must stay flat however large the archive is.

    python tests/benchmarks/bench_submit.py [NUM_FILES ...]

Files are hard links to nothing but their own few bytes, in folders of a thousand, so that the
figures are those of finding, hashing and enqueueing. Each size runs in a process of its own, first
with an empty cache of hashes and then again, when nothing is new.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORDED_AT_S = 1_700_000_000


def make_files(folder, num_files):
    for number in range(num_files):
        home = folder / f"{number // 1000:04d}"
        if number % 1000 == 0:
            home.mkdir(parents=True)
        path = home / f"talk number {number}.wav"
        path.write_bytes(b"RIFF %d" % number)
        os.utime(path, (RECORDED_AT_S, RECORDED_AT_S))


def submit_once(url, folder, cache_path):
    """Submit a folder in this process and print what it took, as JSON."""
    sys.path.insert(0, str(ROOT))
    from producer.archive.find import Names, find
    from producer.archive.hash_cache import HashCache
    from producer.archive.prepare import SubmitOptions
    from producer.archive.submit import submit_archive
    from producer.connection import connect
    from producer.settings import Settings

    settings = Settings(redis={"url": url})
    connection = connect(settings)
    before = _peak_bytes()
    started = time.perf_counter()
    num_files = num_new = 0
    with Names() as names, HashCache(Path(cache_path)) as cache:
        found = find([folder], names)
        for entry in submit_archive(
            connection, settings, found, SubmitOptions(batch="bench"), cache
        ):
            num_files += 1
            num_new += entry.verdict == "new"
    took_s = time.perf_counter() - started
    print(
        json.dumps(
            {
                "files": num_files,
                "new": num_new,
                "files_per_s": round(num_files / took_s),
                "start_mb": round(before / 1e6, 1),
                "grown_mb": round((_peak_bytes() - before) / 1e6, 1),
                "server_bytes_per_job": connection.info("memory")["used_memory"] // num_files,
            }
        )
    )


def _peak_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else 1024 * peak


def measure(num_files):
    """Yield the figures of a first and of a second submission."""
    from tests.stage.farm import running_server

    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder) / "server", "--hash-max-listpack-value", "1024") as server,
    ):
        archive = Path(folder) / "archive"
        make_files(archive, num_files)
        cache_path = str(Path(folder) / "hashes.sqlite")
        for _ in range(2):
            command = [sys.executable, __file__, "--once", server.url, str(archive), cache_path]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            yield json.loads(done.stdout)


def main(sizes):
    sys.path.insert(0, str(ROOT))
    print(f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    for num_files in sizes:
        for figures in measure(num_files):
            print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        submit_once(*sys.argv[2:])
    else:
        main([int(size) for size in sys.argv[1:]] or [10_000, 100_000])
