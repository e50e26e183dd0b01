"""What `transcribe` shows on a terminal while it works: what it waits for, and the text so far."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from producer.keys import progress_key
from producer.progress_lines import Line, dump_lines
from producer.result import LIKELY_NOT_ENGLISH, Model
from producer.settings import load_settings
from tests.cli.stand_in import StandIn, transcript_of
from tests.cli.test_terminal import ATTACK, raw_controls

SHOW_CURSOR = "\x1b[?25h"


class Watched:
    """`transcribe` on a terminal of its own, which can be read while it runs."""

    def __init__(self, settings, folder, *recordings):
        controller, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "producer", "transcribe", *map(str, recordings)],
            env={**os.environ, **settings.to_environment(), "TERM": "xterm", "COLUMNS": "80"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._shown = []
        self._reader = threading.Thread(target=self._read, args=(controller,))
        self._reader.start()

    @property
    def shown(self):
        """Return all that was printed so far."""
        return b"".join(self._shown).decode(errors="replace")

    def end(self):
        """Wait for the command's end; return its exit code."""
        code = self.process.wait(60)
        self._reader.join()
        return code

    def _read(self, controller):
        while True:
            try:
                self._shown.append(os.read(controller, 65536))
            except OSError:  # Linux reports the closed terminal as an input/output error
                break
        os.close(controller)


class SlowStandIn(StandIn):
    """Reports progress on all jobs, and ends them when it is let."""

    def __init__(self, settings):
        self.may_end = threading.Event()
        self._started = []
        super().__init__(settings)

    def _do(self, job_id):
        from rq.job import Job as RqJob
        from rq.serializers import JSONSerializer

        read = RqJob.fetch(job_id, connection=self._client, serializer=JSONSerializer)
        name = read.kwargs["source"].rpartition("/")[2]
        fields = {
            "seconds_done": "30",
            "duration_s": "60",
            "lines": dump_lines([Line(0, 1, ATTACK), Line(1, 7.5, f" so far of {name}")]),
        }
        self._client.hset(progress_key(job_id), mapping=fields)
        self._client.expire(progress_key(job_id), 60)
        self._started.append(job_id)
        if len(self._started) == 2:
            self.may_end.wait(60)
            for each in self._started:
                super()._do(each)


@pytest.fixture
def watch(settings, tmp_path):
    """Return a function that starts `transcribe`; what is left of it is ended."""
    started = []

    def start(*recordings, of=settings):
        started.append(Watched(of, tmp_path, *recordings))
        return started[-1]

    yield start
    for watched in started:
        watched.process.kill()
        watched.end()


@pytest.fixture
def slow_worker(settings):
    """Start a worker without a model that waits to be let."""
    worker = SlowStandIn(settings)
    yield worker
    worker.may_end.set()
    worker.stop()


def test_the_text_so_far_is_shown_of_one_recording_and_goes_before_the_whole_one(
    slow_worker, watch, write_wav, wait_until
):
    """Of the first in order, its name above; no control of a text reaches the terminal."""
    paths = [write_wav(name, value=number) for number, name in enumerate(("b.wav", "a.wav"))]
    watched = watch(*paths)
    wait_until(lambda: "so far of b.wav" in watched.shown, 60)
    live = watched.shown
    slow_worker.may_end.set()
    assert watched.end() == 0
    shown = watched.shown
    assert f"==> {paths[0]} <==" in live
    assert "[00:01.000 --> 00:07.500] so far of b.wav" in live
    assert "so far of a.wav" not in live
    assert r"\x1b]0;t\x07" in live
    assert raw_controls(shown) == []
    assert shown.index("text of b.wav") < shown.index("text of a.wav")
    # Taken off line by line, so that only the whole text stays.
    assert "\x1b[1A\x1b[2K" in shown
    assert shown.rindex("so far of") < shown.index("text of a.wav")


def test_ctrl_c_ends_it_with_the_cursor_shown(slow_worker, watch, write_wav, wait_until):
    """Exit code 130, and the way to come back."""
    watched = watch(write_wav(), write_wav("b.wav", value=1))
    wait_until(lambda: "so far of" in watched.shown, 60)
    watched.process.send_signal(signal.SIGINT)
    assert watched.end() == 130
    assert "interrupted with 0 of 2 done" in watched.shown
    assert SHOW_CURSOR in watched.shown


@pytest.mark.weights
@pytest.mark.slow
def test_what_comes_before_the_text_is_said(watch, embedded_dir, shared_data):
    """A server, a worker and its model; then a text."""
    settings = load_settings(redis={"embedded_dir": embedded_dir})
    watched = watch(shared_data / "audio/english/jfk.flac", of=settings)
    assert watched.end() == 0
    steps = (
        *("starting a server", "starting a worker", "loading model tiny.en"),
        *("transcribing, 0 of 1 done", "my fellow Americans"),
    )
    found = [watched.shown.find(step) for step in steps]
    assert -1 not in found
    assert found == sorted(found)


class ForeignStandIn(StandIn):
    """A model of English alone that heard another language."""

    def result_of(self, job_id, job):
        """Return a text that is not to be trusted."""
        model = Model(name="tiny.en", revision="r", dtype="float32")
        found = transcript_of(job_id, job)
        return found.model_copy(update={"flags": [LIKELY_NOT_ENGLISH], "model": model})


def test_a_text_of_another_language_is_said_to_be_one(scribefarm, settings, write_wav):
    """On stderr, with the way out; stdout has the text as it is."""
    worker = ForeignStandIn(settings)
    try:
        done = scribefarm("transcribe", write_wav(), "--format", "txt")
    finally:
        worker.stop()
    assert (done.returncode, done.stdout) == (0, "text of tone.wav\n")
    assert "tone.wav: most likely not English, and tiny.en knows English alone" in done.stderr
    assert "--model small" in done.stderr
