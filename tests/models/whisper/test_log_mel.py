"""Log-mel spectrograms that arrive in pieces: cuts, spooling and padding change nothing.

That the values are openai-whisper's is shown by tests/models/whisper/test_reference_mel.py.
"""

import resource
import signal
import tempfile
from functools import partial

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import DiskFull
from tests.data.recipes import synthetic_audio
from tests.stage.log_mel import FRAMES
from worker.models.whisper.log_mel import HOP_LENGTH, WINDOW_FRAMES, LogMel, num_frames

RATE_HZ = 16_000

pytestmark = pytest.mark.parametrize("network", FRAMES)


def log_mel(samples, cuts=(), *, network, n_mels=80, kind=LogMel):
    """Return the spectrogram of samples pushed in pieces."""
    spectrogram = kind(partial(FRAMES[network], n_mels=n_mels), n_mels)
    for piece in np.split(samples, sorted(cuts)):
        spectrogram.push(piece)
    spectrogram.finish()
    return spectrogram


class Spooling(LogMel):
    """Keeps one block on the device instead of ten minutes, and another one while it is computed."""

    SPOOL_AFTER_BLOCKS = 1
    COMPUTING_BLOCKS = 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(num_samples=st.integers(0, 70_000) | st.integers(475_000, 485_000), data=st.data())
def test_the_pieces_that_samples_arrive_in_change_no_bit(num_samples, data, network):
    """A sample at a time, empty pieces, or all at once."""
    samples = synthetic_audio("chirp", num_samples)
    cuts = data.draw(st.lists(st.integers(0, num_samples), max_size=8))
    whole, pieces = log_mel(samples, network=network), log_mel(samples, cuts, network=network)
    assert whole.content_frames == pieces.content_frames == num_samples // HOP_LENGTH
    assert mx.array_equal(whole.window(0), pieces.window(0))
    assert mx.array_equal(whole.language_window(), pieces.language_window())


def test_single_samples_at_the_start_are_mirrored_as_a_whole_start_is(network):
    """The first frame reflects 200 samples, which may come one by one."""
    samples = synthetic_audio("impulse", 1000)
    assert mx.array_equal(
        log_mel(samples, network=network).window(0),
        log_mel(samples, range(1, 400), network=network).window(0),
    )


def test_blocks_in_a_file_give_the_windows_that_blocks_on_the_device_give(network):
    """Windows within, across and past spooled blocks and the one being computed."""
    samples = synthetic_audio("chirp", 130 * RATE_HZ + 77)
    kept, spooled = (
        log_mel(samples, network=network),
        log_mel(samples, range(0, samples.size, 99_999), kind=Spooling, network=network),
    )
    for seek in (0, 1, 1500, 2999, 3000, 3001, 7654, 9000, 12_000, 12_999):
        assert mx.array_equal(kept.window(seek), spooled.window(seek)), seek
    assert mx.array_equal(kept.window(4000, 700), spooled.window(4000, 700))
    assert mx.array_equal(kept.language_window(), spooled.language_window())


def test_a_long_recording_holds_ten_minutes_on_the_device(network):
    """Frames past them lie in a file without a name, which ends with the recording."""
    spectrogram = LogMel(partial(FRAMES[network], n_mels=80), 80)
    half_a_minute = np.zeros(30 * RATE_HZ, np.float32)
    for _ in range(30):
        spectrogram.push(half_a_minute)
    spectrogram.finish()
    assert len(spectrogram._blocks) == spectrogram.SPOOL_AFTER_BLOCKS == 20
    assert sum(block.shape[0] for block in spectrogram._blocks) == 20 * WINDOW_FRAMES
    assert sum(shape[0] for _, shape in spectrogram._spooled) == 7 * WINDOW_FRAMES
    last = [block.shape[0] for block in spectrogram._computing]
    assert last == [WINDOW_FRAMES] * (spectrogram.COMPUTING_BLOCKS - 1) + [3]
    spool = spectrogram._spool
    assert not isinstance(spool.name, str)
    del spectrogram
    assert spool.closed


def test_a_window_is_normalised_by_the_loudest_bin_of_the_whole_recording(network):
    """A loud end raises the floor of a quiet start: 8 orders of magnitude below the maximum."""
    quiet = synthetic_audio("late", 40 * RATE_HZ)[: 30 * RATE_HZ]
    loud = np.concatenate([quiet, 0.9 * synthetic_audio("clipped", 10 * RATE_HZ)])
    raised, alone = (
        log_mel(loud, network=network).window(0, 2900),
        log_mel(quiet, network=network).window(0, 2900),
    )
    assert raised.min().item() > alone.min().item()
    top = log_mel(loud, network=network).window(3000).max().item()
    assert raised[:2900].min().item() >= top - 2.0 - 1e-6


def test_a_window_past_the_end_is_filled_with_zeros_and_the_language_window_with_silence(network):
    """The reference pads windows after normalising, and the recording before it."""
    spectrogram = log_mel(synthetic_audio("chirp", 2 * RATE_HZ), network=network)
    window, heard = np.array(spectrogram.window(0)), np.array(spectrogram.language_window())
    assert window.shape == heard.shape == (WINDOW_FRAMES, 80)
    np.testing.assert_array_equal(window[:200], heard[:200])
    assert np.all(window[200:] == 0)
    assert np.all(heard[210:] == heard[210:].min())
    assert heard[210:].min() < 0


def test_a_window_ends_where_it_is_told_to(network):
    """A clip's end hides what follows it."""
    spectrogram = log_mel(synthetic_audio("chirp", 20 * RATE_HZ), network=network)
    window = np.array(spectrogram.window(500, 300))
    np.testing.assert_array_equal(window[:300], np.array(spectrogram.window(0))[500:800])
    assert np.all(window[300:] == 0)


def test_a_whole_first_window_is_the_language_window(network):
    """From 30 s on nothing has to be filled, so that one encoding serves both."""
    for num_samples in (480_000, 480_001, 700_000):
        spectrogram = log_mel(synthetic_audio("chirp", num_samples), network=network)
        assert mx.array_equal(spectrogram.window(0), spectrogram.language_window())


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 200, 201, 400])
def test_recordings_of_less_than_a_window_are_finite_and_of_full_shape(
    num_samples, n_mels, network
):
    """Also with nothing in them."""
    spectrogram = log_mel(synthetic_audio("impulse", num_samples), n_mels=n_mels, network=network)
    assert spectrogram.content_frames == num_frames(num_samples)
    for window in (spectrogram.window(0), spectrogram.language_window()):
        assert window.shape == (WINDOW_FRAMES, n_mels)
        assert mx.isfinite(window).all().item()


def test_loud_samples_stay_finite(network):
    """The loudest that the reader lets through, full-scale int32 as floats, does not overflow."""
    samples = np.full(RATE_HZ, 2.0**32, np.float32)
    samples[::2] *= -1
    assert mx.isfinite(log_mel(samples, network=network).window(0)).all().item()


class FullDisk:
    """Lets a process write no file beyond a size, as a full disk does: part of a block, then none."""

    def __init__(self, num_bytes):
        self._limits = (num_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1])

    def __enter__(self):
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def __exit__(self, *exception):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)
        signal.signal(signal.SIGXFSZ, self._handler)


@pytest.mark.parametrize("room", [0, 1000, 3 * 960_000, 3 * 960_000 + 1])
def test_a_full_disk_is_a_typed_error_that_is_worth_another_try(network, room):
    """At the first block or a later one, in the middle of a block or between two."""
    spectrogram = Spooling(partial(FRAMES[network], n_mels=80), 80)
    with FullDisk(room), pytest.raises(DiskFull, match="960000 bytes") as caught:
        spectrogram.push(np.zeros(300 * RATE_HZ, np.float32))
    assert caught.value.retryable


def test_a_temporary_folder_that_is_absent_is_one_too(network, monkeypatch):
    """TMPDIR may be on a disk that is gone."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    spectrogram = Spooling(partial(FRAMES[network], n_mels=80), 80)
    with pytest.raises(DiskFull, match="No such file"):
        spectrogram.push(np.zeros(300 * RATE_HZ, np.float32))
