"""What surrounds a farm goes wrong: its share, its disk, its clock, and the model of its workers.

Four real workers with the real engine over two toy models, two of each, read recordings from a
share (FUSE). While they work, the share hangs or its server dies and comes back, the disk under the
server's append-only file is full for some seconds, the server's clock steps back, workers are
killed, and drained ones come back with the other model. Each recording says a number, so every
text can be checked: in the end each job must have one result, the right one, by its own model.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from producer.errors import Exit
from producer.job import Job
from producer.keys import EVENTS_KEY, job_key, result_key
from producer.queue import submit
from producer.result import parse_result
from tests.chaos.share import Share
from tests.chaos.share import is_possible as can_mount_shares
from tests.stage.farm import ROOT, Server, make_settings
from tests.stage.server_clock import FAKETIME, ServerClock
from tests.stage.slow_toys import WORDS, text_of, write_number

NUM_BITS = 12
DISK_BYTES = 48 << 20
CLOCK_START_S = 3600
# Drained, killed, told to end before it had registered, and started while the server took nothing.
EXPECTED_ENDS = {0, -signal.SIGKILL, -signal.SIGTERM, Exit.NOBODY_THERE}


@dataclass
class Outcome:
    """What a run came to; `problems` is empty when all is well."""

    jobs: int = 0
    seconds: float = 0.0
    succeeded: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    lost: int = 0
    stuck: int = 0
    max_commits: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    impossible: list[str] = field(default_factory=list)
    worker_ends: Counter[int] = field(default_factory=Counter)

    @property
    def problems(self) -> list[str]:
        checks = {
            "lost": self.lost,
            "stuck": self.stuck,
            "wrong texts": self.wrong,
            "failed": self.failed.total(),
            "jobs committed twice": max(0, self.max_commits - 1),
            "workers that ended by themselves": sum(
                count for code, count in self.worker_ends.items() if code not in EXPECTED_ENDS
            ),
        }
        return [f"{name}: {count}" for name, count in checks.items() if count]

    def table(self) -> str:
        rows = {
            "jobs": self.jobs,
            "succeeded by model": dict(self.succeeded),
            "failed": dict(self.failed),
            "wrong texts": self.wrong,
            "lost": self.lost,
            "stuck": self.stuck,
            "most commits of one job": self.max_commits,
            "faults": dict(self.faults),
            "cannot be done on this machine": ", ".join(self.impossible) or "none",
            "exit codes of workers": dict(self.worker_ends),
            "seconds": f"{self.seconds:.0f}",
        }
        return "\n".join(f"{name:32} {value}" for name, value in rows.items())


class _Worker(NamedTuple):
    model: str
    process: subprocess.Popen[bytes]


class Surroundings:
    """One run over a folder; a seed makes the choices, not the timing, repeatable."""

    def __init__(self, folder: Path, *, num_files: int, seed: int = 0) -> None:
        self._folder, self._chance = folder, random.Random(seed)
        self.outcome = Outcome()
        self._recordings = folder / "recordings"
        self._recordings.mkdir(parents=True)
        self._numbers = self._chance.sample(range(2**NUM_BITS), num_files)
        for number in self._numbers:
            write_number(self._recordings / f"{number}.wav", number, NUM_BITS)
        self._share: Share | None = None
        self._disk = folder / "disk"
        self._workers: list[_Worker] = []

    def run(self, limit_s: float, faults_for_s: float) -> Outcome:
        """Submit, disturb for a time, wait for the rest; give up after `limit_s`."""
        started = time.monotonic()
        with contextlib.ExitStack() as undo:
            self._set_up(undo)
            jobs = [self._job(number, model) for number in self._numbers for model in WORDS]
            self.outcome.jobs = len(jobs)
            ids = [each.job_id for each in submit(self._connection, self._settings, jobs)]
            self._workers = [self._start(model) for model in (*WORDS, *WORDS)]
            self._watch(ids, started + faults_for_s, disturb=True)
            self._watch(ids, started + limit_s, disturb=False)
            self.outcome.seconds = time.monotonic() - started
            self._count(dict(zip(ids, jobs, strict=True)))
        return self.outcome

    # Setting up

    def _set_up(self, undo: contextlib.ExitStack) -> None:
        self._mount()
        undo.callback(lambda: self._share and self._share.stop())
        self._disk.mkdir()
        self._has_disk = _mount_tmpfs(self._disk)
        if self._has_disk:
            undo.callback(_unmount, self._disk)
        self._clock = ServerClock(self._folder / "clock", CLOCK_START_S)
        self._server = Server(self._disk / "server", env=self._clock.environment)
        undo.callback(self._server.stop)
        self._connection = self._server.client
        self._settings = self._make_settings()
        self._faults = self._choose_faults()
        undo.callback(self._kill_workers)

    def _kill_workers(self) -> None:
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()

    def _mount(self) -> None:
        if can_mount_shares():
            self._share = Share(self._recordings, self._folder / "share")

    def _make_settings(self) -> Any:
        patient = {"poison_after": 100, "max_attempts": 100, "retry_delays_s": (0.2, 0.5)}
        # As deploy/README asks for: by its root a worker knows that a share is not mounted.
        root = self._folder / "share" if self._share else self._recordings
        quick = {"read_timeout_s": 2.0, "roots": (root,)}
        return make_settings(self._server.url, queue=patient, audio=quick, grace_s=1.0, slots=4)

    def _choose_faults(self) -> dict[str, Callable[[], None]]:
        always: dict[str, Callable[[], None]] = {
            "kill -9": self._kill,
            "other model": self._change_model,
        }
        if_possible: dict[str, tuple[bool, Callable[[], None]]] = {
            "share hangs": (self._share is not None, self._hang_share),
            "share dies": (self._share is not None, self._lose_share),
            "disk full": (self._has_disk, self._fill_disk),
            "clock steps back": (FAKETIME is not None, self._turn_clock_back),
        }
        self.outcome.impossible = [name for name, (can, _) in if_possible.items() if not can]
        return always | {name: inflict for name, (can, inflict) in if_possible.items() if can}

    def _job(self, number: int, model: str) -> Job:
        folder = self._folder / "share" if self._share else self._recordings
        return Job(source=str(folder / f"{number}.wav"), model=model, name=f"{number}.{model}")

    def _start(self, model: str) -> _Worker:
        environment = {
            **os.environ,
            **self._settings.to_environment(),
            "SCRIBEFARM_MODEL__NAME": model,
            "SLOW_TOY_S": "0.1",
        }
        with (self._folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.stage.slow_toys", "run"],
                cwd=ROOT,
                env=environment,
                stderr=log,
            )
        return _Worker(model, process)

    # The run

    def _watch(self, ids: list[str], until: float, *, disturb: bool) -> None:
        names = list(self._faults)
        next_fault = time.monotonic() + 3.0
        while time.monotonic() < until and not self._is_done(ids):
            self._replace_the_dead()
            if disturb and time.monotonic() > next_fault:
                # Each kind in turn first, then at random.
                turn = self.outcome.faults.total()
                fault = names[turn] if turn < len(names) else self._chance.choice(names)
                self.outcome.faults[fault] += 1
                self._faults[fault]()
                next_fault = time.monotonic() + self._chance.uniform(1.0, 3.0)
            time.sleep(0.1)

    def _replace_the_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is not None:
                self.outcome.worker_ends[code] += 1
                self._workers[place] = self._start(worker.model)

    def _kill(self) -> None:
        self._chance.choice(self._workers).process.kill()

    def _change_model(self) -> None:
        """Drain a worker in mid recording, and start it again with the other model."""
        place = self._chance.randrange(len(self._workers))
        worker = self._workers[place]
        worker.process.send_signal(signal.SIGTERM)
        self.outcome.worker_ends[worker.process.wait(60)] += 1
        (other,) = set(WORDS) - {worker.model}
        has_left = any(each.model == worker.model for each in self._workers if each is not worker)
        # The last worker of a model stays with it: somebody must do its jobs.
        self._workers[place] = self._start(other if has_left else worker.model)

    def _hang_share(self) -> None:
        assert self._share
        self._share.process.send_signal(signal.SIGSTOP)
        time.sleep(self._chance.uniform(1.0, 5.0))
        self._share.process.send_signal(signal.SIGCONT)

    def _lose_share(self) -> None:
        """Every access fails; after a while the share is mounted again, in the same place."""
        assert self._share
        self._share.process.kill()
        time.sleep(self._chance.uniform(1.0, 3.0))
        self._share.stop()
        self._mount()

    def _fill_disk(self) -> None:
        filler = self._disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass
        time.sleep(self._chance.uniform(2.0, 6.0))
        filler.unlink()

    def _turn_clock_back(self) -> None:
        self._clock.step(-self._chance.uniform(5.0, 20.0))

    # The count

    def _is_done(self, ids: list[str]) -> bool:
        ended: Any = self._connection.exists(*map(result_key, ids))
        return bool(ended == len(ids))

    def _count(self, jobs: dict[str, Job]) -> None:
        outcome = self.outcome
        for job_id, job in jobs.items():
            stored: Any = self._connection.get(result_key(job_id))
            if stored is None:
                is_known = self._connection.exists(job_key(job_id))
                outcome.stuck += bool(is_known)
                outcome.lost += not is_known
                continue
            result = parse_result(stored)
            if result.status == "failed":
                outcome.failed[result.error.code] += 1
                continue
            assert job.model
            outcome.succeeded[result.model.name] += 1
            expected = text_of(int(Path(job.source).stem), NUM_BITS, job.model)
            outcome.wrong += (result.text, result.model.name) != (expected, job.model)
        entries: Any = self._connection.xrange(EVENTS_KEY)
        ended = [
            fields[b"job_id"]
            for _, fields in entries
            if fields.get(b"kind", b"job_ended") == b"job_ended"
        ]
        outcome.max_commits = max(Counter(ended).values(), default=0)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _mount_tmpfs(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
