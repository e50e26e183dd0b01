"""What the page costs a farm of a hundred workers and a million jobs, and how soon it is there.

    python -m tests.benchmarks.bench_web [NUM_JOBS] [NUM_WORKERS]

A real server with the shipped settings: a tenth of the jobs waits, ten of each worker are in hand, the
rest has ended; the workers' heartbeats go on. The page runs in a process of its own, as `scribefarm
web` runs it. "First" is the first time that anybody asks, before anything of the batch is copied;
"copied" is when the index has all files. The server's share is its processor time with ten open
pages, less that without any; its commands are counted over the same time.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import uvicorn
from pydantic import SecretStr

from producer.connection import connect
from producer.keys import model_queue, progress_key, registry_key, work_key
from producer.settings import RedisSettings, Settings, WebSettings
from producer.web.app import create_app
from producer.web.indexer import Pace
from tests.benchmarks.bench_million import cpu_s
from tests.benchmarks.bench_monitoring import BATCH, SHIPPED, Heartbeats, fill
from tests.stage.farm import free_port, running_server
from worker.farm.scripts import FarmScripts

IN_HAND = 10
NUM_PAGES, WATCHED_S = 10, 60.0
PATHS = {
    "overview": "/",
    "batch": f"/batch?name={BATCH}",
    "failed": f"/batch?name={BATCH}&state=failed&code=corrupt_audio",
    "page 2000": f"/batch?name={BATCH}&page=2000",
    "workers": "/workers",
}


def take_in_hand(connection, settings, num_workers):
    """Let each worker have some jobs, and be in the middle of them; let the day be a busy one."""
    model = [(settings.model.name, None)]
    for n in range(num_workers):
        FarmScripts(connection, settings, f"mini-{n}-{n:08x}", model).claim(IN_HAND, suspects=0)
    entries = connection.zrange(registry_key("wip", model_queue("default", model[0][0])), 0, -1)
    now = int(time.time())
    with connection.pipeline(transaction=False) as pipeline:
        for entry in entries:
            key = progress_key(entry.decode().rpartition(":")[0])
            text = "and nobody kept the keys, so the boxes stayed where they were"
            progress = {"seconds_done": 1234.5, "duration_s": 3600, "text": text}
            pipeline.hset(key, mapping=progress)
            pipeline.expire(key, 86_400)
        for slot in range(now // 300 - 287, now // 300 + 1):
            day, number = divmod(slot, 288)
            pipeline.hset(work_key(day), f"{number}:audio_ms", 30_000_000)
            pipeline.hset(work_key(day), f"{number}:succeeded", 640)
            pipeline.expire(work_key(day), 86_400)
        pipeline.execute()
    return len(entries)


def serve(url, port, folder, mode):
    """Run the page; with `idle` the index does nothing, with `copied` it has all files."""
    settings = Settings(
        redis=RedisSettings(url=SecretStr(url)), web=WebSettings(index_dir=Path(folder))
    )
    app = create_app(connect(settings), settings)
    indexer = app.state.web.indexer
    if mode == "copied":
        indexer._pace = Pace(share=1e9)
        began = time.perf_counter()
        indexer.look_at(BATCH, 1e9)
        while BATCH in indexer._crawls:
            indexer._copy(BATCH)
        print(json.dumps({"copied_unpaced_s": round(time.perf_counter() - began, 1)}), flush=True)
    if mode in {"idle", "copied"}:
        indexer.step = lambda: False
    uvicorn.run(app, port=port, log_level="error")


@contextlib.contextmanager
def page(url, folder, mode):
    """Yield the address of a page in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.bench_web", "--serve", url, str(port)]
    process = subprocess.Popen([*command, str(folder), mode])
    address = f"http://127.0.0.1:{port}"
    while True:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"{address}/static/page.css")
            break
        time.sleep(0.05)
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def paint_s(address, paths, times=1):
    """Return the seconds to each page's whole HTML, the slowest of some."""
    took = {}
    for name in paths:
        for _ in range(times):
            began = time.perf_counter()
            answer = httpx.get(f"{address}{PATHS[name]}", timeout=60)
            assert answer.status_code == 200, answer.text
            took[name] = max(took.get(name, 0), round(time.perf_counter() - began, 3))
            time.sleep(0.3)
    return took


def watched(address, connection, num_pages):
    """Return what the server does while so many pages are open."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(timeout=30))
        streams = [
            stack.enter_context(client.stream("GET", f"{address}/live?{topic}"))
            for topic in ("topic=farm", f"topic=batch&name={BATCH}") * (num_pages // 2)
        ]
        lines = [stream.iter_lines() for stream in streams]
        for each in lines:
            next(each)
        time.sleep(3)
        connection.config_resetstat()
        before, began = cpu_s(connection), time.perf_counter()
        time.sleep(WATCHED_S)
        took_s = time.perf_counter() - began
        used_s = cpu_s(connection) - before
        stats = connection.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    return used_s / took_s, calls


def main(num_jobs, num_workers):
    with (
        tempfile.TemporaryDirectory(prefix="sf-web-") as folder,
        running_server(Path(folder) / "server", *SHIPPED) as server,
    ):
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url)))
        connection = connect(settings)
        version = server.client.info("server")
        print(
            f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores, "
            f"{version.get('server_name', 'redis')} "
            f"{version.get('valkey_version', version['redis_version'])}, {num_jobs} jobs, "
            f"{num_workers} workers",
            flush=True,
        )
        # A busy machine may take long over a page of two thousand jobs.
        patient = RedisSettings(url=SecretStr(server.url), socket_timeout_s=120)
        fill(settings.model_copy(update={"redis": patient}), num_jobs)
        beats = Heartbeats(settings, num_workers)
        print("in hand:", take_in_hand(connection, settings, num_workers))
        connection.config_set("slowlog-log-slower-than", 10_000)
        connection.slowlog_reset()
        with page(server.url, Path(folder) / "first", "copying") as address:
            print("first paint, s:", json.dumps(paint_s(address, ("overview", "batch"))))
            print("while it is copied, s:", json.dumps(paint_s(address, PATHS, 3)), flush=True)
            quiet, _ = watched(address, connection, 0)
            print(f"share of the server while it is copied, nobody looks: {quiet:.2%}", flush=True)
        with page(server.url, Path(folder) / "idle", "idle") as address:
            quiet, _ = watched(address, connection, 0)
            share, calls = watched(address, connection, NUM_PAGES)
            print(
                f"share of the server: {quiet:.2%} with nobody, {share:.2%} with {NUM_PAGES} pages"
            )
            print(f"of that the refresh: {share - quiet:.2%}")
            print("commands a minute:", json.dumps(calls), flush=True)
        with page(server.url, Path(folder) / "copied", "copied") as address:
            print("copied, s:", json.dumps(paint_s(address, PATHS, 3)), flush=True)
        slow = connection.slowlog_get(100)
        print(
            "slow log over 10 ms:",
            len(slow),
            [(each["duration"], each["command"][:60]) for each in slow[:5]],
        )
        beats.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    else:
        main(
            int(sys.argv[1]) if sys.argv[1:] else 1_000_000,
            int(sys.argv[2]) if sys.argv[2:] else 100,
        )
