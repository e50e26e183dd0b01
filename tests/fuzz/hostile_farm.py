"""Fuzz the farm: whatever stands in the server, no worker and no command dies of it.

    python -m tests.fuzz.hostile_farm [--entries 20000] [--seed 1]

Each round fills a real server with hostile entries beside two sound jobs, lets a real worker (with
the tests' fake engine) take what is queued, and then runs every command that reads or cancels. Exits
1 if the worker raised or stood still, if a command ended other than by its own exit codes, or if a
sound job lost its text. `--seed` repeats a run.
"""

import argparse
import collections
import contextlib
import http.server
import logging
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import structlog
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from producer.__main__ import app
from producer.cli import session
from producer.connection import connect
from producer.errors import Internal, SourceNotFound
from producer.keys import EVENTS_KEY, batch_key, job_key, queue_key
from producer.queue import read_result, submit
from producer.settings import Settings
from tests.fuzz.hostile_entries import Entry, entries
from tests.stage.fake_engine import FakeEngine, Recording, expected_text, job
from tests.stage.farm import make_settings, running_server
from worker.engine.messages import Failed, Ticket
from worker.farm import farm_worker
from worker.farm.farm_worker import FarmWorker

ENTRIES_A_ROUND = 20
# A round takes half a second.
STILL_S = 20.0
SECRET = "whsec_" + "c2NyaWJlZmFybS1mdXp6LXNlY3JldC0wMTIzNDU2Nzg5"


class Engine(FakeEngine):
    """The fake engine, for which a source that it cannot read is one that is not there."""

    def submit(self, ticket: Ticket) -> None:
        try:
            Recording.parse(ticket.job.source)
        except ValueError:
            error = SourceNotFound("source", "must be a fake one", ticket.job.source)
            self._events.put(Failed(ticket.execution_id, error))
        else:
            super().submit(ticket)


class HostileFarm:
    """A server, a worker and the counts of what became of both."""

    def __init__(self, settings: Settings, folder: Path, receiver: str) -> None:
        self._settings, self._folder, self._receiver = settings, folder, receiver
        self._connection = connect(settings)
        self._runner = CliRunner()
        self.engine = Engine()
        self._worker = self._new_worker()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.ends: collections.Counter[str] = collections.Counter()
        self.commands: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def play(self, found: list[Entry]) -> None:
        """Run one round."""
        self._connection.flushall()
        sound, waiting = job("sound", windows=1, window_s=0), job("waiting", windows=1)
        (first,) = submit(self._connection, self._settings, [in_batch(sound)])
        for entry in found:
            self._plant(entry)
        (last,) = submit(self._connection, self._settings, [in_batch(sound, "behind")])
        self._let_work(found)
        for job_id in {first.job_id, last.job_id}:
            result = read_result(self._connection, job_id)
            if getattr(result, "text", None) != expected_text(sound.source):
                self._fail("LOST TEXT", found, f"{result}")
        self._count_ends(found)
        (left,) = submit(self._connection, self._settings, [in_batch(waiting)])
        for entry in found:
            if entry.fields:
                with contextlib.suppress(Exception):
                    self._connection.hset(job_key_of(entry), "status", "queued")
        self._read(found)
        self._command(found, "cancel", "night")
        if self._connection.hget(job_key(left.job_id), "status") != b"canceled":
            self._fail("NOT CANCELLED", found, left.job_id)

    def report(self, elapsed_s: float) -> int:
        """Print the tables and return the exit code."""
        print(f"{self.kinds.total()} hostile entries, {elapsed_s:.0f} s")
        for title, counts in (
            ("planted", self.kinds),
            ("ended as", self.ends),
            ("ran", self.commands),
        ):
            print(f"  {title}")
            for name, count in counts.most_common():
                print(f"    {name:24} {count:7}")
        for failure in self.failures[:20]:
            print(failure)
        dead = collections.Counter(failure.split(":")[0] for failure in self.failures)
        print(f"dead workers: {dead['DEAD WORKER']}, dead commands: {dead['DEAD COMMAND']}", end="")
        others = len(self.failures) - dead["DEAD WORKER"] - dead["DEAD COMMAND"]
        print(f", other failures: {others}")
        return 1 if self.failures else 0

    def _new_worker(self) -> FarmWorker:
        worker = FarmWorker(self.engine, self._settings, connect(self._settings), name="fuzz")
        worker.register_birth()
        return worker

    def _plant(self, entry: Entry) -> None:
        self.kinds[entry.kind] += 1
        self._connection.hset(batch_key("night"), b"name " + entry.job_id, entry.job_id)
        # Another entry of the round may have the same id.
        if entry.fields:
            self._connection.delete(job_key_of(entry))
            self._connection.hset(job_key_of(entry), mapping=entry.fields)
        for key, held in entry.keys.items():
            self._connection.delete(key)
            if isinstance(held, list):
                self._connection.rpush(key, *held)
            elif isinstance(held, dict):
                self._connection.hset(key, mapping=held)
            else:
                self._connection.set(key, held)
        for event in entry.events:
            self._connection.xadd(EVENTS_KEY, event)
        if entry.is_queued:
            self._connection.rpush(queue_key("default"), entry.job_id)

    def _let_work(self, found: list[Entry]) -> None:
        """Step the worker until nothing is queued and nothing in hand."""
        deadline = time.monotonic() + STILL_S
        worker = self._worker
        try:
            while self._connection.llen(queue_key("default")) or len(worker._held):
                worker._step()
                if worker._outage.is_active and worker._outage._wait_s > 2:
                    self._fail("DEAD WORKER", found, "an outage that is none")
                assert time.monotonic() < deadline, f"{len(worker._held)} jobs in hand"
        except Exception:
            self._fail("DEAD WORKER", found, traceback.format_exc(limit=-4))
            for execution in list(worker._held._held):
                self.engine.cancel(execution, Internal("fuzz", "was given up"))
            self._worker = self._new_worker()

    def _count_ends(self, found: list[Entry]) -> None:
        for entry in found:
            if not entry.is_queued:
                continue
            with contextlib.suppress(Exception):
                status, code = self._connection.hmget(job_key_of(entry), "status", "code")
                word = (status or b"gone").decode(errors="replace")
                self.ends[f"{word} {(code or b'').decode(errors='replace')}"[:24]] += 1

    def _read(self, found: list[Entry]) -> None:
        out = self._folder / "out"
        self._command(found, "status")
        self._command(found, "status", "night")
        self._command(found, "report", "night")
        self._command(found, "errors", "night")
        self._command(found, "results", "night", "-o", str(out), "--format", "txt,srt,json")
        self._command(found, "events", "--all")
        self._command(found, "relay", "--url", self._receiver, "--once", "--from-start")
        ids = [entry.job_id.decode(errors="replace") for entry in found if entry.kind == "result"]
        for job_id in ids[:2]:
            self._command(found, "result", job_id, "--json", may_miss=True)

    def _command(self, found: list[Entry], *arguments: str, may_miss: bool = False) -> None:
        self.commands[arguments[0]] += 1
        # Reading the settings takes longer than the commands.
        with mock.patch.object(session, "load_settings", return_value=self._settings):
            ran = self._runner.invoke(app, list(arguments), env={"WEBHOOK_SECRET": SECRET})
        error = ran.exception
        if error is None or isinstance(error, SystemExit):
            return
        if may_miss and getattr(error, "code", "") == "job_not_found":
            return
        said = "".join(traceback.format_exception(error)[-4:])
        self._fail("DEAD COMMAND", found, f"{arguments[0]} {said}")

    def _fail(self, kind: str, found: list[Entry], reason: str) -> None:
        self.failures.append(f"{kind}: {reason[-1500:]}\n    {_short(found)}")


def _short(found: list[Entry]) -> str:
    return "\n    ".join(f"{entry!r}"[:700] for entry in found)


def in_batch(asked: Any, name: str | None = None) -> Any:
    """Return the job as one of the batch, under its own name or another."""
    return asked.model_copy(update={"batch": "night", "name": name or asked.source})


def job_key_of(entry: Entry) -> bytes:
    """Return the key of an entry's hash, whose id may be no text."""
    return job_key("").encode() + entry.job_id


class _Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def receiver() -> Iterator[str]:
    """Run a webhook's receiver and give its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def run(num_entries: int, seed: int) -> int:
    """Play rounds until that many entries were planted; print what came of it."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    logging.disable(logging.CRITICAL)
    farm_worker.POLL_IDLE_S = farm_worker.POLL_BUSY_S = farm_worker.CLAIM_IDLE_S = 0.002
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="sf-") as folder,
        receiver() as url,
        running_server(Path(folder) / "server") as server,
    ):
        farm = HostileFarm(make_settings(server.url), Path(folder), url)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max(1, num_entries // ENTRIES_A_ROUND),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(entries, min_size=ENTRIES_A_ROUND, max_size=ENTRIES_A_ROUND))
        def rounds(found: list[Entry]) -> None:
            farm.play(found)

        rounds()
        farm.engine.stop()
        return farm.report(time.monotonic() - started)


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    return run(options.entries, options.seed)


if __name__ == "__main__":
    sys.exit(main())
