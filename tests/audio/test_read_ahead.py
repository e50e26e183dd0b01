"""Reading ahead: blocks of 30 s, no more than the engine has room for, then how it ended."""

import threading

import numpy as np

from producer.errors import Internal, OutOfRange, SourceNotFound
from producer.settings import AudioSettings
from tests.stage.made_audio import noise, write_wav
from worker.audio import read_ahead
from worker.audio.read_ahead import (
    BLOCK_SAMPLES,
    BLOCKS_AHEAD,
    End,
    Reading,
    Start,
    longest_seconds,
)


def read(path, settings=None):
    """Deliver everything into a list; the engine takes each block at once."""
    delivered = []
    reading = Reading(str(path), settings or AudioSettings(), delivered.append)
    for _ in range(100):
        reading.take()
    reading.run()
    return delivered


def test_blocks_hold_30_seconds_and_the_end_says_what_was_read(tmp_path):
    """No sample is lost between them."""
    samples = noise(2 * BLOCK_SAMPLES + 5)
    start, *blocks, end = read(write_wav(tmp_path / "a.wav", samples))
    heard = np.concatenate(blocks)
    assert all(len(block) >= BLOCK_SAMPLES for block in blocks[:-1])
    assert len(heard) == len(samples)
    np.testing.assert_allclose(heard, samples[:, 0], atol=0.5 / 32768)
    assert start == Start(len(samples) / 16_000)
    assert isinstance(end, End)
    assert end.audio.duration_s == len(samples) / 16_000
    assert (end.audio.channels, end.audio.format) == (1, "WAV/FLOAT")


def test_an_error_is_delivered_like_a_block(tmp_path, monkeypatch):
    """Also one that nobody foresaw."""
    assert [type(ending) for ending in read(tmp_path / "absent")] == [SourceNotFound]
    monkeypatch.setattr(read_ahead, "open_tracks", lambda *_, **__: 1 / 0)
    path = write_wav(tmp_path / "a.wav", noise(100))
    assert [type(ending) for ending in read(path)] == [Internal]


def test_reading_waits_for_the_engine_and_ends_early_when_stopped(tmp_path):
    """Memory holds `BLOCKS_AHEAD` blocks, however long the recording is."""
    path = write_wav(tmp_path / "a.wav", noise(5 * BLOCK_SAMPLES), subtype="PCM_16")
    delivered, is_full = [], threading.Event()

    def deliver(block):
        if isinstance(block, Start):
            return
        delivered.append(block)
        if len(delivered) == BLOCKS_AHEAD:
            is_full.set()

    reading = Reading(str(path), AudioSettings(), deliver)
    thread = threading.Thread(target=reading.run)
    thread.start()
    assert is_full.wait(30)
    reading.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert len(delivered) == BLOCKS_AHEAD


def test_the_cap_depends_on_what_is_done_with_long_recordings(tmp_path):
    """One pass while they are rejected, the whole file while they are split."""
    limits = {"max_audio_seconds": 1.0, "max_file_seconds": 2.0}
    split = AudioSettings(long_audio="split", **limits)
    reject = AudioSettings(long_audio="reject", **limits)
    assert (longest_seconds(split), longest_seconds(reject)) == (2.0, 1.0)
    path = write_wav(tmp_path / "a.wav", noise(24_000))
    assert isinstance(read(path, split)[-1], End)
    assert isinstance(read(path, reject)[-1], OutOfRange)
