"""What monitors cost a farm of a hundred workers and a million jobs.

    python -m tests.benchmarks.bench_monitoring [NUM_JOBS] [NUM_WORKERS]

A real server with the shipped settings, a tenth of the jobs waiting and the rest ended, and workers
of which nothing runs but the heartbeats, one each five seconds as shipped. The server's time is that
of its own clock for commands (INFO commandstats), a script's with all that it calls.
"""

import json
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from producer.batches.views import note_batch
from producer.connection import connect
from producer.fleet import farm_status
from producer.job import Job
from producer.keys import FACTS_KEY
from producer.metrics.collector import FarmCollector
from producer.queue import submit
from producer.roster import read_roster
from producer.scripts import Scripts
from producer.settings import RedisSettings, Settings
from tests.stage.claims import NotingEngine
from tests.stage.farm import running_server
from worker.farm.hours import Hours
from worker.farm.scripts import FarmScripts, queue_levels, served_models
from worker.farm.self_report import SelfReport

# As deploy/redis/redis.conf and the embedded server have it.
SHIPPED = ("--hash-max-listpack-value", "1024", "--stream-node-max-bytes", "512")
BATCH = "archive-20251123-2200"
PAGE = 300
NUM_LOOKS = 20
HEARTBEAT_S = 5.0
# Prometheus as shipped; a person with `watch -n 1 scribefarm workers`.
SCRAPE_EVERY_S, LOOK_EVERY_S = 15.0, 1.0


def fill(settings, num_jobs):
    """Let nine of ten jobs have ended, and the rest wait."""
    connection = connect(settings)
    # Filling is not what is measured.
    connection.config_set("appendonly", "no")
    note_batch(connection, settings, BATCH)
    num_ended = num_jobs * 9 // 10
    scripts = Scripts(connection, Path(__file__).parent, shared=None)
    began = time.time() - 40_000
    for first in range(0, num_ended, PAGE):
        count = min(PAGE, num_ended - first)
        fields = {"batch": BATCH, "first": first, "count": count, "ttl_s": 86_400}
        scripts.run("fill_night", **fields, began=began)
    waiting = (
        Job(source=f"/archive/{n}.wav", name=f"{n}.wav", batch=BATCH, audio_sha256=f"{n:064x}")
        for n in range(num_jobs - num_ended)
    )
    submit(connection, settings, waiting)


class Heartbeats:
    """Workers of which there is nothing but the heartbeats, spread over the five seconds."""

    def __init__(self, settings, num_workers):
        engine = NotingEngine()
        models = served_models(engine.model, settings.model)
        queues = [each for level in queue_levels(settings.worker.queues, models) for each in level]
        self._workers = [
            (
                FarmScripts(connect(settings), settings, f"mini-{n}-{n:08x}", models),
                SelfReport(engine, settings, queues),
                {"queues": ",".join(queues), "state": "busy"},
            )
            for n in range(num_workers)
        ]
        self._stopped = threading.Event()
        self.beat()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def beat(self):
        for each in self._workers:
            self._one(*each)

    def stop(self):
        self._stopped.set()
        self._thread.join()

    @staticmethod
    def _one(scripts, report, record):
        facts = report.facts([], Hours(), is_draining=False)
        names = tuple(f"archive/2026/{n:04}/tape {n:07}.wav" for n in range(8))
        said = facts.model_copy(update={"recordings": names, "in_flight": 8, "slots": 16})
        scripts.heartbeat([], record, 60, said.to_json())

    def _run(self):
        turn = 0
        pause_s = HEARTBEAT_S / len(self._workers)
        while not self._stopped.wait(pause_s):
            self._one(*self._workers[turn % len(self._workers)])
            turn += 1


def measure(connection, look) -> dict[str, Any]:
    """Look many times; return what one look costs server and client."""
    look()
    connection.config_resetstat()
    took = []
    for _ in range(NUM_LOOKS):
        started = time.perf_counter()
        look()
        took.append(time.perf_counter() - started)
    stats = connection.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): each for name, each in stats.items()}
    own = {"config|resetstat", "info"}
    return {
        "calls": round(counted["evalsha"]["calls"] / NUM_LOOKS, 1),
        "commands": round(
            sum(each["calls"] for name, each in counted.items() if name not in own) / NUM_LOOKS
        ),
        "server_ms": round(_asked_us(counted) / NUM_LOOKS / 1000, 2),
        "client_ms": round(1000 * sorted(took)[len(took) // 2], 1),
        "scans": sorted(set(counted) & {"keys", "scan", "hscan", "sscan", "zscan", "hgetall"}),
        "most": dict(
            sorted(
                ((name, round(each["calls"] / NUM_LOOKS, 1)) for name, each in counted.items()),
                key=lambda pair: -pair[1],
            )[:6]
        ),
    }


def _asked_us(counted) -> float:
    """Return the time of what the client asked for; what scripts call is in theirs."""
    return sum(
        each["usec"]
        for name, each in counted.items()
        if name in {"evalsha", "time", "ping", "zrevrange", "mget"}
    )


def main(num_jobs, num_workers):
    with (
        tempfile.TemporaryDirectory(prefix="sf-monitoring-") as folder,
        running_server(Path(folder), *SHIPPED) as server,
    ):
        settings = Settings(redis=RedisSettings(url=SecretStr(server.url)))
        version = server.client.info("server")
        print(
            f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores, "
            f"{version.get('server_name', 'redis')} "
            f"{version.get('valkey_version', version['redis_version'])}, {num_jobs} jobs, "
            f"{num_workers} workers"
        )
        empty, connection = Settings(**settings.model_dump()), connect(settings)
        for name, jobs in (("no jobs", 0), (f"{num_jobs} jobs", num_jobs)):
            fill(settings, jobs) if jobs else None
            beats = Heartbeats(settings, num_workers)
            beats.stop()
            connection.config_set("slowlog-log-slower-than", 10_000)
            connection.slowlog_reset()
            collector = FarmCollector(empty, max_age_s=0.0)
            looks = {
                "scrape": (collector.page, SCRAPE_EVERY_S),
                "workers": (lambda: read_roster(connection, settings), LOOK_EVERY_S),
                "status": (lambda: farm_status(connection, settings), LOOK_EVERY_S),
                "heartbeats": (beats.beat, HEARTBEAT_S),
            }
            for title, (look, every_s) in looks.items():
                cost = measure(connection, look)
                share = cost["server_ms"] / 1000 / every_s
                print(
                    name, title, json.dumps(cost | {"share_of_server": f"{share:.3%}"}), flush=True
                )
            print(name, "slow log over 10 ms:", connection.slowlog_len())
            print(name, "bytes of a worker:", connection.hstrlen(FACTS_KEY, f"mini-1-{1:08x}"))
            print(name, "bytes of a page:", len(collector.page()))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 100,
    )
