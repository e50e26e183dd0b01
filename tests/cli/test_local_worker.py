"""The worker that `transcribe` starts when none is alive: its settings, and what it waits for."""

import os
import signal
import subprocess
import sys

import pytest

from producer.cli import local_worker
from producer.cli.interrupts import Interrupts
from producer.cli.local_worker import FarmWorkers, LocalWorker
from producer.errors import InvalidSettings, NoWorker
from producer.settings import load_settings

TURBO = "mlx-community/whisper-large-v3-turbo"


class Started:
    """What was started instead of a worker: it logs what it is told to, at the log's end."""

    def __init__(self, _command, *, env, stdout, **_streams):
        self.env, self.log = env, stdout
        Started.last = self

    def say(self, line):
        """Write as the child would, which has the file's place in common with its parent."""
        os.write(self.log.fileno(), line + b"\n")

    def poll(self):
        """Return that it has ended."""
        return 0

    terminate = kill = poll


@pytest.fixture
def start(monkeypatch):
    """Return a function that starts a worker without a process."""
    monkeypatch.setattr(subprocess, "Popen", Started)
    started = []

    def start(**model):
        settings = load_settings(model=model, log={"level": "error", "format": "console"})
        started.append(LocalWorker(settings))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


@pytest.mark.parametrize("name", ["./nofolder", "/nowhere/model", "~/nofolder"])
def test_a_models_folder_that_is_not_here_is_said_before_a_worker_starts(start, name):
    """The worker would end with a line of its log, and the command with 3."""
    with pytest.raises(InvalidSettings, match="existing folder") as caught:
        start(name=name)
    assert caught.value.exit_code == 2


def test_it_has_the_model_and_the_revision_that_were_asked_for(start):
    """Under the name that the farm knows, since jobs wait in the queue of that name."""
    start(name="turbo", revision="abc")
    env = Started.last.env
    assert env["SCRIBEFARM_MODEL__NAME"] == TURBO
    assert env["SCRIBEFARM_MODEL__REVISION"] == "abc"


def test_it_says_what_it_waits_for_from_its_log(start):
    """Whatever the user's own log settings are; each start begins anew."""
    worker = start(name="turbo")
    assert Started.last.env["SCRIBEFARM_LOG__LEVEL"] == "info"
    assert Started.last.env["SCRIBEFARM_LOG__FORMAT"] == "json"
    assert worker.waits_for() == "starting a worker"
    Started.last.say(b'{"event": "model_loading", "name": "x"}')
    assert worker.waits_for() == "loading model large-v3-turbo"
    Started.last.say(b'{"event": "model_pinned", "name": "x"}')
    assert worker.waits_for() is None


def test_a_model_that_takes_long_is_said_to_be_downloaded(start, monkeypatch):
    """Only one that comes from the hub."""
    monkeypatch.setattr(local_worker, "SLOW_LOAD_S", -1.0)
    for name, ending in (
        ("turbo", "turbo (the first time 1.6 GB are downloaded)"),
        ("base", "base"),
    ):
        worker = start(name=name)
        Started.last.say(b'{"event": "model_loading"}')
        assert worker.waits_for().endswith(f"{ending}")


INTERRUPTED = """
import os, signal, sys
from producer.cli.interrupts import Interrupts

class Dropping:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})

with Interrupts() as interrupts:
    interrupts.check()
    thing = Dropping()
    del thing
    print("goes on", flush=True)
    interrupts.check()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_that_python_drops_comes_at_the_next_check(name):
    """It is ignored while an object is destroyed, wherever that happens."""
    program = INTERRUPTED.format(name=name)
    # Of a child that pytest started in the background, Ctrl-C may be ignored.
    command = [
        sys.executable,
        "-c",
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{program}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "goes on\n"
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert done.returncode == -signal.SIGINT


def test_handlers_are_what_they_were_afterwards():
    """And a Ctrl-C that was ignored before stays so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
    assert {number: signal.getsignal(number) for number in before} == before


def test_one_of_ours_takes_the_place_of_workers_that_are_gone(monkeypatch, start):
    """Killed ones look alive for a lease; whoever waits must not be sent away for that."""
    looks = iter([None, NoWorker("wait", "a worker must be alive")])

    def watch(_pending):
        if error := next(looks):
            raise error

    start()
    monkeypatch.setattr(local_worker, "WorkerWatch", lambda *_: watch)
    with FarmWorkers(None, load_settings(model={"name": "base"})) as workers:
        before = Started.last
        workers.check(["job"])
        assert (Started.last, workers.waits_for()) == (before, None)
        workers.check(["job"])
        assert Started.last.env["SCRIBEFARM_MODEL__NAME"] == "base"
        assert workers.waits_for() == "starting a worker"
        # From now on ours is looked after.
        workers.check(["job"])
