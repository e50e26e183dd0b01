"""From the installed scripts to the text: a real server, a real worker, real speech and weights."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from rq import Queue

from producer import embedded
from producer.connection import connect
from producer.queue import job_state, read_result
from producer.result import Failure, Transcript
from producer.settings import load_settings
from tests.conftest import SHARED_DATA
from tests.stage.farm import free_port, wait_until

ROOT = Path(__file__).resolve().parents[1]
GOLDENS = ROOT / "tests" / "data"
SCRIPTS = Path(sys.executable).parent
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
CLIP_TIMED = """\
[00:00.000 --> 00:08.720] Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.
"""
CLIP_TEXT = " Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."
TASK = "worker.tasks.transcribe"
# A slow, busy machine loads the model and hears ten seconds in this time.
PATIENCE_S = 60
# What a second recording may cost a worker beside its result: buffers that the allocator keeps.
MAX_GROWTH_BYTES = 64_000_000

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]


class Farm:
    """An embedded server of its own, and the installed programs on it."""

    def __init__(self, folder, **env):
        self.folder = folder
        self.env = {name: text for name, text in os.environ.items() if "SCRIBEFARM" not in name}
        # With its slots given no worker measures this machine.
        self.env |= {"SCRIBEFARM_WORKER__SLOTS": "8"}
        self.env |= {"SCRIBEFARM_REDIS__EMBEDDED_DIR": str(folder / "server"), **env}
        self.settings = load_settings(redis={"embedded_dir": folder / "server"})
        self._connection = None

    @property
    def connection(self):
        """A connection, which starts the server."""
        if self._connection is None:
            self._connection = connect(self.settings)
        return self._connection

    def scribefarm(self, *arguments, **env):
        """Run `scribefarm` to its end."""
        return subprocess.run(
            [SCRIPTS / "scribefarm", *map(str, arguments)],
            env=self.env | env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )

    @contextmanager
    def worker(self, name, *command):
        """Start a worker, and kill it at the end if it is still there; gives process and log."""
        log = self.folder / f"{name}.log"
        command = command or (SCRIPTS / "scribefarm-worker", "run", "--name", name)
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, env=self.env, cwd=ROOT, stderr=stderr)
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()

    def enqueue(self, source, **kwargs):
        """Enqueue as any RQ program does, without our package; returns the job's id."""
        queue = Queue("default", connection=self.connection, serializer="json")
        return str(queue.enqueue(TASK, source=str(source), **kwargs).id)

    def result(self, job_id):
        """Wait for a job's result."""
        return wait_until(lambda: read_result(self.connection, job_id), PATIENCE_S)

    def stop(self):
        """Stop the server."""
        if self._connection is not None:
            self._connection.close()
        embedded.stop(self.settings)


def logged(log, event):
    """Return the log's lines of one kind."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.fixture(scope="module")
def folder():
    """Return a folder with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def farm(folder):
    """Return a farm that refuses recordings above one pass, and its one worker for all tests."""
    (folder / "farm").mkdir()
    farm = Farm(folder / "farm", SCRIBEFARM_AUDIO__LONG_AUDIO="reject")
    farm.connection.ping()
    with farm.worker("first") as (farm.process, farm.log):
        # Loading and warming up come first; until then nobody is there to wait for.
        wait_until(lambda: farm.connection.scard("rq:workers"), PATIENCE_S)
        yield farm
    farm.stop()


@pytest.fixture
def lone_farm():
    """Return a farm without a worker, for one test."""
    path = Path(tempfile.mkdtemp(prefix="sf-"))
    farm = Farm(
        path,
        SCRIBEFARM_WORKER__LEASE_S="3",
        SCRIBEFARM_WORKER__HEARTBEAT_S="0.5",
        SCRIBEFARM_WORKER__REAP_S="0.5",
    )
    yield farm
    farm.stop()
    shutil.rmtree(path)


@pytest.mark.archive
@pytest.mark.parametrize(
    ("asked", "stored"),
    [([], GOLDENS / "beam_goldens.jsonl"), (["--quality", "fast"], SHARED_DATA / "golden.jsonl")],
    ids=["default", "fast"],
)
def test_jfk_goes_through_the_queue_and_comes_back_as_the_golden_text(farm, asked, stored):
    """By default what openai-whisper's command says with its five beams, or greedily: to the token."""
    goldens = map(json.loads, stored.read_text("utf-8").splitlines())
    golden = next(each for each in goldens if "jfk" in each["path"] and each["model"] == "tiny.en")
    submitted = farm.scribefarm("submit", SHARED_DATA / "audio" / "english" / "jfk.flac", *asked)
    assert submitted.returncode == 0, submitted.stderr
    read = farm.scribefarm("result", submitted.stdout.strip(), "--wait", "--json")
    result = json.loads(read.stdout)
    assert (read.returncode, result["status"], result["text"]) == (0, "succeeded", golden["text"])
    for ours, theirs in zip(result["segments"], golden["segments"], strict=True):
        assert {key: ours[key] for key in ("start", "end", "tokens")} == {
            key: theirs[key] for key in ("start", "end", "tokens")
        }


def test_a_second_job_uses_the_weights_that_the_first_one_found(farm):
    """The model is loaded once, by a process that stays the same and does not grow."""
    first = farm.result(farm.enqueue(CLIP))
    worker = psutil.Process(farm.process.pid)
    before = worker.memory_info().rss
    second = farm.result(farm.enqueue(CLIP))
    growth = worker.memory_info().rss - before
    assert (first.text, second.text) == (CLIP_TEXT, CLIP_TEXT)
    assert first.model == second.model
    assert [line["name"] for line in logged(farm.log, "model_pinned")] == ["tiny.en"]
    assert growth < MAX_GROWTH_BYTES
    assert worker.children() == []


def missing(folder):
    """There is no such file."""
    return folder / "missing.wav"


def zero_bytes(folder):
    """A file of zero bytes."""
    path = folder / "zero.wav"
    path.touch()
    return path


def text(folder):
    """Text with a name of audio."""
    path = folder / "text.wav"
    path.write_text("This is a letter, not a recording.\n" * 100)
    return path


def no_samples(folder):
    """A whole WAV header, and no sample."""
    path = folder / "no-samples.wav"
    soundfile.write(path, np.zeros(0, np.float32), 16_000)
    return path


def over_long(folder):
    """One second more than one pass may have."""
    path = folder / "over-long.wav"
    soundfile.write(path, np.zeros(31 * 16_000, np.float32), 16_000)
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (missing, "source_not_found"),
        (zero_bytes, "empty_input"),
        (text, "unsupported_format"),
        (no_samples, "empty_input"),
        (over_long, "out_of_range"),
    ],
)
def test_a_bad_recording_fails_by_name_and_the_next_one_succeeds(farm, folder, make, code):
    """The error says where it was seen and what must hold; the same worker goes on."""
    bad = farm.result(farm.enqueue(make(folder)))
    good = farm.result(farm.enqueue(CLIP))
    assert isinstance(bad, Failure)
    assert (bad.error.code, bad.error.retryable) == (code, False)
    assert bad.error.context
    assert bad.error.constraint
    assert bad.error.message in (folder / "farm" / "first.log").read_text()
    assert isinstance(good, Transcript)
    assert good.text == CLIP_TEXT
    assert farm.process.poll() is None


def test_logits_of_a_wrong_rank_fail_one_recording_and_the_next_one_succeeds(lone_farm):
    """A model that is broken once costs the window that it was asked about, not the worker."""
    command = (sys.executable, "-m", "tests.stage.broken_model_worker")
    with lone_farm.worker("broken-once", *command) as (process, _):
        failed = lone_farm.result(lone_farm.enqueue(CLIP))
        done = lone_farm.result(lone_farm.enqueue(CLIP))
        assert process.poll() is None
    assert isinstance(failed, Failure)
    assert failed.error.code == "rank_mismatch"
    assert isinstance(done, Transcript)
    assert done.text == CLIP_TEXT


def test_transcribe_prints_only_the_text_and_stops_what_it_started(lone_farm):
    """Server and worker come up for one command; the bad file is named on stderr, exit code 1."""
    bad = text(lone_farm.folder)
    done = lone_farm.scribefarm("transcribe", CLIP)
    assert (done.returncode, done.stdout) == (0, CLIP_TIMED), done.stderr
    again = lone_farm.scribefarm("transcribe", bad, CLIP)
    assert again.returncode == 1
    assert again.stdout == f"==> {CLIP} <==\n{CLIP_TIMED}"
    assert "unsupported_format" in again.stderr
    assert "text.wav" in again.stderr
    assert not embedded.status(lone_farm.settings).running
    assert [each for each in psutil.process_iter() if is_of(each, lone_farm)] == []


def is_of(process, farm):
    """Tell whether a process was started for a farm."""
    try:
        return str(farm.folder) in process.environ().get("SCRIBEFARM_REDIS__EMBEDDED_DIR", "")
    except psutil.Error:
        return False


def test_wrong_usage_ends_with_2_and_nobody_there_with_3(lone_farm):
    """Nothing is on stdout; no server, and no worker within a lease, are both 3."""
    wrong = lone_farm.scribefarm("transcribe", CLIP, "--format", "docx")
    url = f"redis://127.0.0.1:{free_port()}"
    no_server = lone_farm.scribefarm("transcribe", CLIP, SCRIBEFARM_REDIS__URL=url)
    job_id = lone_farm.enqueue(CLIP)
    no_worker = lone_farm.scribefarm("result", job_id, "--wait")
    codes = [wrong.returncode, no_server.returncode, no_worker.returncode]
    assert codes == [2, 3, 3], (wrong.stderr, no_server.stderr, no_worker.stderr)
    assert wrong.stdout + no_server.stdout + no_worker.stdout == ""
    assert "invalid_options" in wrong.stderr
    assert "server_unreachable" in no_server.stderr
    assert "scribefarm-worker run" in no_worker.stderr


@pytest.mark.slow
def test_a_new_worker_finishes_the_job_of_one_that_was_killed(lone_farm):
    """kill -9 in the middle of a recording; after the lease the second worker has it."""
    job_id = lone_farm.enqueue(CLIP)
    with lone_farm.worker("killed") as (process, _):
        wait_until(lambda: job_state(lone_farm.connection, job_id) == "started", PATIENCE_S)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert read_result(lone_farm.connection, job_id) is None
    with lone_farm.worker("second"):
        result = lone_farm.result(job_id)
    assert isinstance(result, Transcript)
    assert result.text == CLIP_TEXT
    assert result.worker.startswith("second")
