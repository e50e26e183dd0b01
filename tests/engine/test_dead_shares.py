"""Shares that hang, over the real engine: who hangs ends, is told so, and costs no neighbour."""

import hashlib
import os
import threading
import time
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from producer.errors import Cancelled, DiskFull, SourceUnreachable
from producer.job import Job
from producer.settings import Settings
from tests.stage.dead_share import DeadShare
from tests.stage.fake_family import FakeFamily, FakeMel
from worker.audio import fingerprint, reading_threads
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Opened, Ticket


@pytest.fixture
def start():
    """Return a function that starts an engine over a fake device; all are stopped at the end."""
    engines = []

    def run(family=None, **audio):
        audio = {"read_timeout_s": 0.3} | audio
        engines.append(BatchEngine(Settings(audio=audio), lambda _: family or FakeFamily()))
        return engines[-1]

    yield run
    for engine in engines:
        engine.stop()


@pytest.fixture
def record(tmp_path):
    """Return a function that writes two seconds of a constant level."""

    def write(name, level=7):
        path = tmp_path / f"{name}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(level.to_bytes(2, "little", signed=True) * 32_000)
        return path

    return write


def ticket(path, **job):
    return Ticket(path.stem, f"job-{path.stem}", Job(source=str(path), **job))


def collect(engine, num_endings, timeout_s=60.0):
    """Return the recordings' endings by name."""
    ended, deadline = {}, time.monotonic() + timeout_s
    while len(ended) < num_endings:
        assert time.monotonic() < deadline, f"only {ended}"
        for event in engine.poll(0.1):
            if isinstance(event, Done | Failed):
                assert event.execution_id not in ended
                ended[event.execution_id] = event
    return ended


@pytest.mark.parametrize("call", ["open", "fstat", "lseek"])
def test_a_share_that_hangs_fails_its_recordings_and_no_others(start, record, monkeypatch, call):
    """More of them than reading threads, with healthy ones before, between and after them."""
    share = DeadShare(monkeypatch, call)
    engine = start(threads=2)
    names = ["good-0", "dead-0", "dead-1", "good-1", "dead-2", "good-2"]
    for name in names:
        engine.submit(ticket(record(name)))
    ended = collect(engine, len(names))
    engine.submit(ticket(record("good-3")))
    ended |= collect(engine, 1)
    for name, event in ended.items():
        assert isinstance(event, Done if name.startswith("good") else Failed), name
    errors = [ended[name].error for name in ("dead-0", "dead-1", "dead-2")]
    assert all(isinstance(error, SourceUnreachable) and error.retryable for error in errors)
    assert "0.3 s" in errors[0].constraint
    assert (engine.num_lost_threads, engine.can_read) == (3, True)
    share.answers.set()


def test_when_the_share_answers_again_the_threads_come_back_without_a_word(
    start, record, monkeypatch, wait_until
):
    """What they read has ended already; there are as many threads as before."""
    before = set(threading.enumerate())
    share = DeadShare(monkeypatch, "open")
    engine = start(threads=2)
    for number in range(3):
        engine.submit(ticket(record(f"dead-{number}")))
    collect(engine, 3)
    share.answers.set()
    wait_until(lambda: engine.num_lost_threads == 0)

    def num_readers():
        ours = set(threading.enumerate()) - before
        return sum(each.name == "audio" for each in ours)

    wait_until(lambda: num_readers() == 2)
    engine.submit(ticket(record("dead-but-back")))
    assert isinstance(collect(engine, 1)["dead-but-back"], Done)
    engine.stop()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_too_many_lost_threads_are_not_replaced_and_the_engine_says_so(
    start, record, monkeypatch, wait_until
):
    """Until they are back; what was in the line for a thread is read then."""
    monkeypatch.setattr(reading_threads, "MOST_LOST", 3)
    share = DeadShare(monkeypatch, "open")
    engine = start(threads=2)
    for number in range(6):
        engine.submit(ticket(record(f"dead-{number}")))
    ended = collect(engine, 4)
    wait_until(lambda: not engine.can_read)
    assert engine.num_lost_threads == 4  # the third was not replaced, the fourth was at work
    assert share.callers == 4
    engine.submit(ticket(record("good")))
    engine.cancel("dead-5", Cancelled("job", "was cancelled"))
    ended |= collect(engine, 1)
    assert ended["dead-5"].error.code == "cancelled"
    assert engine.poll(0.5) == []
    share.answers.set()
    ended |= collect(engine, 2)
    wait_until(lambda: engine.can_read)
    assert isinstance(ended["good"], Done)
    assert isinstance(ended["dead-4"], Done)


def test_a_cancelled_recording_that_hangs_costs_a_thread_all_the_same(
    start, record, monkeypatch, wait_until
):
    """Nobody waits for it any more, but its thread is not free."""
    share = DeadShare(monkeypatch, "open")
    engine = start(threads=1)
    engine.submit(ticket(record("dead")))
    wait_until(lambda: share.callers)
    engine.cancel("dead", Cancelled("job", "was cancelled"))
    assert collect(engine, 1)["dead"].error.code == "cancelled"
    engine.submit(ticket(record("good")))
    assert isinstance(collect(engine, 1)["good"], Done)
    assert engine.num_lost_threads == 1
    share.answers.set()


def test_a_share_that_is_slow_but_answers_is_never_given_up(start, record, monkeypatch, wait_until):
    """The whole takes longer than the limit; the log names the recording and the seconds, once."""
    monkeypatch.setattr(reading_threads, "SLOW_S", 0.01)
    monkeypatch.setattr(fingerprint, "_PIECE_BYTES", 16_000)  # of 64,044
    num_reads = 0

    def slowly(*arguments):
        nonlocal num_reads
        num_reads += 1
        if num_reads == 1:
            wait_until(lambda: "share_is_slow" in [line["event"] for line in lines])
        threading.Event().wait(0.5)
        return os.pread(*arguments)

    monkeypatch.setattr(fingerprint, "os", SimpleNamespace(**vars(os) | {"pread": slowly}))
    path = record("slow")
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    with capture_logs() as lines:
        engine = start(threads=1, read_timeout_s=2.0)
        started = time.monotonic()
        engine.submit(ticket(path, audio_sha256=expected))
        done = collect(engine, 1)["slow"]
    assert done.transcript.audio.sha256 == expected
    assert time.monotonic() - started > 2.0
    (line,) = [line for line in lines if line["event"] == "share_is_slow"]
    assert line["source"] == str(path)
    assert line["silent_s"] >= 0


def test_the_log_names_the_recording_whose_thread_was_lost(start, record, monkeypatch):
    """With the seconds of silence, and how many threads are lost by now."""
    share = DeadShare(monkeypatch, "open")
    path = record("dead")
    with capture_logs() as lines:
        engine = start()
        engine.submit(ticket(path))
        collect(engine, 1)
    (line,) = [line for line in lines if line["event"] == "reading_thread_lost"]
    assert (line["source"], line["lost_threads"]) == (str(path), 1)
    assert line["silent_s"] > 0.3
    share.answers.set()


def test_a_recording_in_the_line_for_a_thread_is_not_opened(start, record, monkeypatch):
    """So its job's clock does not run; once open, the header tells its duration."""
    share = DeadShare(monkeypatch, "open")
    engine = start(threads=1, read_timeout_s=30.0)
    engine.submit(ticket(record("dead")))
    engine.submit(ticket(record("good")))
    assert engine.poll(0.3) == []
    share.answers.set()
    events = []
    while sum(isinstance(event, Done) for event in events) < 2:
        events += engine.poll(1.0)
    assert [event for event in events if isinstance(event, Opened)] == [
        Opened("dead", 2.0),
        Opened("good", 2.0),
    ]


def test_a_full_disk_fails_its_recording_and_no_others(start, record):
    """What the features raise is about one recording, and is worth another try."""

    class Features(FakeMel):
        def push(self, samples):
            super().push(samples)
            if self.level == 3:
                raise DiskFull("temporary folder", "must have room for 960000 bytes more")

    family = FakeFamily()
    family.features = Features
    engine = start(family)
    for level in (1, 3, 2):
        engine.submit(ticket(record(f"level-{level}", level)))
    ended = collect(engine, 3)
    assert isinstance(ended["level-3"].error, DiskFull)
    assert all(isinstance(ended[f"level-{level}"], Done) for level in (1, 2))


def test_cancelling_channels_are_a_flag_of_the_transcript(start, tmp_path):
    """Before the flags of the text."""
    path = tmp_path / "phase.wav"
    left = np.full((16_000, 1), 7 / 32768 * 100, np.float32)
    soundfile.write(path, np.hstack([left, -left]), 16_000)
    engine = start()
    engine.submit(ticket(path))
    assert collect(engine, 1)["phase"].transcript.flags[0] == "phase_cancelled"
