"""Chaos: kill, stop, freeze and cut everything there is, then count.

Three workers with a fake fast decoder, a real server with an append-only file, and between them a
proxy that loses replies. While thousands of jobs run, workers get kill -9, SIGTERM and
SIGSTOP/SIGCONT, the server gets kill -9 and freezes. In the end each job must have exactly one
right result.
"""

import json
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from producer.job import Job
from producer.keys import EVENTS_KEY, job_key, result_key
from producer.queue import submit
from producer.result import parse_result
from producer.settings import Settings
from tests.chaos.proxy import LossyProxy, loses_at_random
from tests.chaos.scrapes import Scrapes, disagreements
from tests.stage import fake_engine
from tests.stage.farm import Server, WorkerProcess, make_settings

FAULTS = {"kill -9": 4, "SIGTERM": 3, "SIGSTOP": 3, "server kill -9": 2, "server freeze": 2}


@dataclass
class Report:
    """What a run came to; `problems` is empty when all is well."""

    jobs: int = 0
    seconds: float = 0.0
    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    stuck: int = 0
    max_commits: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lost_replies: int = 0
    adopted: int = 0
    fenced_off: int = 0
    longest_recovery_s: float = 0.0
    audio_s: float = 0.0
    scrapes: int = 0
    scrapes_without_server: int = 0
    wrong_metrics: list[str] = field(default_factory=list)

    @property
    def results(self) -> int:
        return self.succeeded + self.failed.total()

    @property
    def problems(self) -> list[str]:
        checks = {
            "lost": self.lost,
            "stuck": self.stuck,
            "wrong results": self.wrong,
            "jobs committed twice": max(0, self.max_commits - 1),
        }
        return [f"{name}: {count}" for name, count in checks.items() if count] + self.wrong_metrics

    def table(self) -> str:
        rows = {
            "jobs": self.jobs,
            "results": self.results,
            "succeeded": self.succeeded,
            "failed as told": dict(self.failed),
            "wrong": self.wrong,
            "lost": self.lost,
            "stuck": self.stuck,
            "most commits of one job": self.max_commits,
            "given back": dict(self.retries),
            "fenced off": self.fenced_off,
            "claims adopted": self.adopted,
            "replies lost": self.lost_replies,
            "faults": dict(self.faults),
            "longest recovery after kill -9": f"{self.longest_recovery_s:.1f} s",
            "scrapes": f"{self.scrapes}, {self.scrapes_without_server} of them without the server",
            "metrics that are not true": ", ".join(self.wrong_metrics) or "none",
            "seconds": f"{self.seconds:.0f}",
        }
        return "\n".join(f"{name:32} {value}" for name, value in rows.items())


class Chaos:
    """One run over a folder; a seed makes the choices, not the timing, repeatable."""

    def __init__(
        self,
        folder: Path,
        *,
        num_jobs: int,
        num_workers: int = 3,
        seed: int = 0,
        loss: float = 0.002,
    ) -> None:
        self._folder, self._chance = folder, random.Random(seed)
        self._jobs = _make_jobs(num_jobs, self._chance)
        self.report = Report(jobs=num_jobs)
        self._server = Server(folder / "server")
        self._proxy = LossyProxy(self._server.port, loses_at_random(loss, seed))
        self._settings = _settings(self._proxy.url)
        self._direct = make_settings(self._server.url)
        self._connection = self._server.client
        self._log = folder / "workers.log"
        self._num_workers = num_workers
        self._workers: list[WorkerProcess] = []
        self._victims: dict[str, tuple[str, float]] = {}

    def run(self, limit_s: float, faults_for_s: float) -> Report:
        """Submit, disturb for a time, wait for the rest; give up after `limit_s`."""
        started = time.monotonic()
        try:
            job_ids = [each.job_id for each in submit(self._connection, self._direct, self._jobs)]
            self._scrapes = Scrapes(self._direct)
            self._workers = [self._start_worker() for _ in range(self._num_workers)]
            self._disturb(job_ids, started + min(faults_for_s, limit_s))
            self._calm(job_ids, started + limit_s)
            self.report.seconds = time.monotonic() - started
            self._count(job_ids)
            self._count_scrapes()
        finally:
            self.close()
        return self.report

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._proxy.close()
        self._server.stop()

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(self._settings, log=self._log)

    def _disturb(self, job_ids: list[str], until: float) -> None:
        next_fault = time.monotonic() + 1.0
        while time.monotonic() < until and not self._all_done(job_ids):
            self._workers = [
                each if each.process.poll() is None else self._start_worker()
                for each in self._workers
            ]
            self._watch_recovery()
            if time.monotonic() > next_fault:
                (fault,) = self._chance.choices(list(FAULTS), weights=list(FAULTS.values()))
                self.report.faults[fault] += 1
                self._inflict(fault)
                next_fault = time.monotonic() + self._chance.uniform(0.5, 3.0)
            time.sleep(0.1)

    def _inflict(self, fault: str) -> None:
        worker = self._chance.choice(self._workers)
        pause_s = self._chance.uniform(1.0, 6.0)
        if fault == "kill -9":
            worker.signal(signal.SIGKILL)
            self._note_victims(worker)
        elif fault == "SIGTERM":
            worker.signal(signal.SIGTERM)
        elif fault == "SIGSTOP":
            worker.signal(signal.SIGSTOP)
            threading.Timer(pause_s, worker.signal, (signal.SIGCONT,)).start()
        elif fault == "server kill -9":
            self._server.kill()
            time.sleep(pause_s / 2)
            self._server.start()
        else:
            self._server.freeze()
            time.sleep(pause_s / 2)
            self._server.thaw()

    def _note_victims(self, worker: WorkerProcess) -> None:
        """Remember what the killed worker had, to see when somebody takes it up."""
        pid, now = str(worker.process.pid).encode(), time.monotonic()
        for key in self._connection.scan_iter("rq:worker:*", _type="HASH"):
            if self._connection.hget(key, "pid") == pid:
                entries: Any = self._connection.smembers(key + b":executions")
                for entry in entries:
                    job_id, execution_id = entry.decode().split(":")
                    self._victims[job_id] = (execution_id, now)

    def _watch_recovery(self) -> None:
        for job_id, (execution_id, killed) in list(self._victims.items()):
            status, fence = self._connection.hmget(job_key(job_id), "status", "fence")
            if status != b"started" or fence != execution_id.encode():
                del self._victims[job_id]
                took_s = time.monotonic() - killed
                self.report.longest_recovery_s = max(self.report.longest_recovery_s, took_s)

    def _calm(self, job_ids: list[str], until: float) -> None:
        while time.monotonic() < until and not self._all_done(job_ids):
            self._workers = [
                each if each.process.poll() is None else self._start_worker()
                for each in self._workers
            ]
            self._watch_recovery()
            time.sleep(0.1)

    def _all_done(self, job_ids: list[str]) -> bool:
        try:
            ended: Any = self._connection.exists(*map(result_key, job_ids))
        except redis.RedisError:
            return False
        return bool(ended == len(set(job_ids)))

    def _count(self, job_ids: list[str]) -> None:
        report = self.report
        results: Any = self._connection.mget(map(result_key, job_ids))
        for job_id, asked, stored in zip(job_ids, self._jobs, results, strict=True):
            if stored is None:
                known = self._connection.exists(job_key(job_id))
                report.stuck, report.lost = report.stuck + known, report.lost + (not known)
                continue
            result = parse_result(stored)
            told = fake_engine.Recording.parse(asked.source)
            if result.status == "succeeded":
                report.succeeded += 1
                report.audio_s += result.audio.duration_s
                right = result.text == fake_engine.expected_text(asked.source)
                report.wrong += not right or (bool(told.error) and not told.once)
            else:
                report.failed[result.error.code] += 1
                report.wrong += result.error.code != told.error or told.once
        entries: Any = self._connection.xrange(EVENTS_KEY)
        commits = Counter(fields[b"job_id"] for _, fields in entries if b"kind" not in fields)
        report.max_commits = max(commits.values(), default=0)
        report.lost_replies = self._proxy.num_lost
        self._read_log()

    def _count_scrapes(self) -> None:
        """Hold what the monitor scraped to what results and events say."""
        report = self.report
        self._scrapes.stop()
        report.scrapes = self._scrapes.num_scrapes
        report.scrapes_without_server = self._scrapes.num_without_server
        report.wrong_metrics = disagreements(
            self._scrapes,
            self._connection,
            succeeded=report.succeeded,
            failed=report.failed,
            audio_s=report.audio_s,
        )

    def _read_log(self) -> None:
        for line in self._log.read_text().splitlines():
            if not line.startswith("{"):
                continue  # a traceback
            entry = json.loads(line)
            if entry["event"] == "requeued":
                self.report.retries[entry["code"]] += 1
            elif entry["event"] == "adopted":
                self.report.adopted += entry["jobs"]
            elif entry["event"] in {"fenced_off", "lease_lost"}:
                self.report.fenced_off += 1


def _make_jobs(count: int, chance: random.Random) -> list[Job]:
    """Return jobs of 1 to 8 windows; some are told to fail, some to fail once."""
    jobs = []
    for number in range(count):
        options: dict[str, float | str] = {
            "windows": chance.randint(1, 8),
            "window_s": round(chance.uniform(0.01, 0.15), 3),
        }
        draw = chance.random()
        if draw < 0.02:
            options |= {"error": "corrupt_audio", "error_at": 0}
        elif draw < 0.04:
            options |= {"windows": 8, "error": "source_unreachable", "error_at": 2, "once": 1}
        jobs.append(fake_engine.job(f"c{number}", **options))
    return jobs


def _settings(url: str) -> Settings:
    """Return fast leases; suspicion is off, since here the murderer is known."""
    patient = {"poison_after": 100, "max_attempts": 100, "retry_delays_s": (0.2, 0.5)}
    settings = make_settings(url, queue=patient, grace_s=1.0)
    section = settings.redis.model_copy(update={"socket_timeout_s": 1.0})
    return settings.model_copy(update={"redis": section})
