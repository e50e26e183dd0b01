"""Recordings that are read in processes: the same pieces, the same errors, and a child may die."""

import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from producer.errors import CorruptAudio, SourceNotFound, WorkerLost
from producer.settings import AudioSettings, LogSettings
from tests.stage.made_audio import noise, write_wav
from worker.audio.read_ahead import BLOCK_SAMPLES, End, Reading, Start
from worker.audio.reading_process import ReadingProcess
from worker.audio.reading_threads import ReadingThreads

SETTINGS = AudioSettings()


@pytest.fixture
def process():
    reader = ReadingProcess(LogSettings(format="json"))
    yield reader
    reader.stop()


def delivered(path, run):
    """Return what a reading delivers; the engine takes each block at once."""
    pieces = []
    reading = Reading(str(path), SETTINGS, pieces.append)
    for _ in range(100):
        reading.take()
    run(reading)
    return pieces


def test_the_same_is_delivered_as_in_a_thread(tmp_path, process):
    """Samples to the bit, and all that is found out about the recording but how long it took."""
    path = write_wav(tmp_path / "a.wav", noise(2 * BLOCK_SAMPLES + 5))
    for _ in range(2):
        there, here = delivered(path, process.run), delivered(path, Reading.run)
        assert [type(piece) for piece in there] == [type(piece) for piece in here]
        assert there[0] == here[0] == Start((2 * BLOCK_SAMPLES + 5) / 16_000)
        for mine, theirs in zip(there[1:-1], here[1:-1], strict=True):
            assert np.array_equal(mine, theirs)
        assert there[-1].audio == here[-1].audio
        assert (there[-1].flags, list(there[-1].speech)) == (here[-1].flags, list(here[-1].speech))


def test_errors_come_as_they_are(tmp_path, process):
    """With their context, limit and value; the child goes on."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF" + bytes(100))
    for name, kind in (("absent.wav", SourceNotFound), ("broken.wav", CorruptAudio)):
        there, here = (delivered(tmp_path / name, run) for run in (process.run, Reading.run))
        assert [str(each) for each in there] == [str(each) for each in here]
        assert isinstance(there[0], kind)
    first = process._child.pid
    path = write_wav(tmp_path / "a.wav", noise(1000))
    assert isinstance(delivered(path, process.run)[-1], End)
    assert process._child.pid == first


def test_a_recording_whose_child_dies_may_be_tried_again(tmp_path, process):
    """That one alone: the next has another child, also if it died between two recordings."""
    path = write_wav(tmp_path / "a.wav", noise(4 * BLOCK_SAMPLES), subtype="PCM_16")
    pieces = []

    def deliver(piece):
        if not pieces:
            os.kill(process._child.pid, signal.SIGKILL)
        pieces.append(piece)

    reading = Reading(str(path), SETTINGS, deliver)
    for _ in range(10):
        reading.take()
    process.run(reading)
    assert isinstance(pieces[-1], WorkerLost)
    assert "exit code -9" in str(pieces[-1])
    assert isinstance(delivered(path, process.run)[-1], End)
    os.kill(process._child.pid, signal.SIGKILL)
    process._child.join()
    assert isinstance(delivered(path, process.run)[-1], End)


def test_a_child_whose_worker_is_gone_ends_without_a_word(tmp_path, process, capfd):
    """Also in the middle of a recording: a worker that is killed has left nothing to say."""
    path = write_wav(tmp_path / "a.wav", noise(6 * BLOCK_SAMPLES), subtype="PCM_16")
    children = []

    def deliver(_piece):
        if not children:
            children.append(process._child)
            process._connection.close()

    process.run(Reading(str(path), SETTINGS, deliver))
    children[0].join(60)
    assert capfd.readouterr() == ("", "")


def test_a_reading_waits_for_the_engine_and_is_let_go_when_stopped(tmp_path, process):
    """Nothing more is delivered, and the child does not read on."""
    path = write_wav(tmp_path / "a.wav", noise(6 * BLOCK_SAMPLES), subtype="PCM_16")
    pieces = []
    reading = Reading(str(path), SETTINGS, pieces.append)
    thread = threading.Thread(target=process.run, args=(reading,))
    thread.start()
    until = time.monotonic() + 60
    while len(pieces) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    assert len(pieces) == 3  # the start, and as many blocks as the engine has room for
    assert reading.silent_s == 0
    reading.stop()
    thread.join(60)
    assert not thread.is_alive()
    assert len(pieces) == 3
    assert process._child is None


def test_threads_read_in_processes(tmp_path):
    """Two recordings at once, each in a process of its own, which end with the threads."""
    paths = [write_wav(tmp_path / f"{n}.wav", noise(BLOCK_SAMPLES)) for n in range(4)]
    readers = ReadingThreads(2, 60.0, in_processes=True)
    ended, children = threading.Semaphore(0), set()

    def deliver(piece):
        children.update(child.pid for child in multiprocessing.active_children())
        if isinstance(piece, End):
            ended.release()

    for path in paths:
        readers.submit(Reading(str(path), SETTINGS, deliver))
    for _ in paths:
        assert ended.acquire(timeout=60)
    assert len(children) == 2
    readers.stop()
    until = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.05)
    assert multiprocessing.active_children() == []
