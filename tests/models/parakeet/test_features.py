"""What the encoder is given: the published recipe, in both networks, for pieces of any length."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import OutOfRange
from tests.stage.tiny_parakeets import random_parakeet, speech_like, tiny_config
from worker.models.mel import SAMPLE_RATE_HZ, mel_filterbank
from worker.models.parakeet.buckets import BUCKETS, bucket_of, grouped, padded
from worker.models.parakeet.features import LOG_GUARD, hann_window, log_mel
from worker.models.parakeet.numpy_network import NumpyParakeet

CONFIG = tiny_config(n_mels=128)
NUMPY = NumpyParakeet(random_parakeet(CONFIG))
SECONDS = (0.011, 0.025, 0.1, 1.0, 2.3, 4.999)


def in_mlx(pieces, bucket, config=CONFIG):
    """Return (B, F, M) of pieces of one bucket."""
    rows = mx.array(padded(pieces, bucket, config))
    counts = mx.array([piece.size for piece in pieces], mx.int32)
    return np.array(log_mel(config.features, rows, counts))


def alone_in_mlx(piece, config=CONFIG):
    mel = in_mlx([piece], bucket_of(config.num_frames(piece.size)), config)[0]
    return mel[: config.num_mel_frames(piece.size)]


def alone_in_numpy(piece):
    return NUMPY.features([piece])[0]


def by_the_book(samples, n_mels=128):
    """Return the features in double precision, one step after another."""
    emphasized = samples.astype(float)
    emphasized[1:] -= 0.97 * samples[:-1]
    padded = np.pad(emphasized, 256)
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    frames = [padded[160 * at : 160 * at + 512] * window for at in range(samples.size // 160)]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mels = np.log(power @ mel_filterbank(512, n_mels).astype(float) + 2.0**-24)
    count = len(mels)
    deviation = np.sqrt(((mels - mels.mean(0)) ** 2).sum(0) / max(count - 1, 1))
    return (mels - mels.mean(0)) / (deviation + 1e-5)


# Of float32's transforms of a pure tone; transformers' own features are up to 4e-5 from the recipe.
@pytest.mark.parametrize(("compute", "tolerance"), [(alone_in_mlx, 1e-4), (alone_in_numpy, 2e-5)])
@pytest.mark.parametrize("seconds", SECONDS)
def test_features_are_those_of_the_recipe(compute, tolerance, seconds):
    """Pre-emphasis, centred window, Slaney's filters, logarithm, deviation over N - 1."""
    piece = speech_like(seconds)
    found = compute(piece)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_the_book(piece), atol=tolerance)


def test_a_piece_gives_the_same_alone_and_among_others():
    """Bit for bit, whatever stands in the other rows."""
    pieces = [speech_like(seconds, seed) for seed, seconds in enumerate((2.1, 1.6, 2.5))]
    together = in_mlx(pieces, 32)
    for row, piece in zip(together, pieces, strict=True):
        assert np.array_equal(row, in_mlx([piece], 32)[0])
    for found, piece in zip(NUMPY.features(pieces), pieces, strict=True):
        assert np.array_equal(found, alone_in_numpy(piece))


def test_nothing_follows_a_piece():
    """Zero from the last whole hop on, in normalised units."""
    piece = speech_like(1.0)[: 16_000 - 30]
    mel = in_mlx([piece], 16)[0]
    assert mel[:99].any(axis=1).all()
    assert not mel[99:].any()


@pytest.mark.parametrize("num_samples", [0, 1, 159])
def test_less_than_a_hop_has_no_frames(num_samples):
    """A recording may be that short."""
    piece = speech_like(1.0)[:num_samples]
    assert alone_in_numpy(piece).shape == (0, 128)
    assert not in_mlx([piece], 8).any()


@pytest.mark.parametrize("compute", [alone_in_mlx, alone_in_numpy])
@pytest.mark.parametrize("num_samples", [160, 320, 16_000])
def test_silence_and_single_frames_are_finite(compute, num_samples):
    """A bin that never varies has deviation 0; one frame has none at all."""
    for piece in (np.zeros(num_samples, np.float32), speech_like(1.0)[:num_samples]):
        found = compute(piece)
        assert len(found) == num_samples // 160
        assert np.isfinite(found).all()


@pytest.mark.parametrize("compute", [alone_in_mlx, alone_in_numpy])
def test_digital_silence_is_nothing(compute):
    """Every frame is the same: no rounding is left for the guard to blow up."""
    assert not compute(np.zeros(48_000, np.float32)).any()


def test_a_model_may_do_without_normalisation():
    """As its configuration says."""
    config = replace(CONFIG, features=replace(CONFIG.features, normalizes=False))
    mel = alone_in_mlx(np.zeros(1600, np.float32), config)
    np.testing.assert_allclose(mel, np.log(LOG_GUARD), rtol=1e-6)


def test_the_window_is_symmetric_and_centred():
    """Not periodic: its first sample equals its last."""
    window = hann_window(512, 400)
    assert not window[:57].any()
    assert not window[455:].any()
    assert np.array_equal(window, window[::-1])


def test_pieces_are_grouped_by_their_own_length():
    """A bucket depends on the piece alone."""
    pieces = [
        np.zeros(int(seconds * SAMPLE_RATE_HZ), np.float32) for seconds in (30, 0.5, 29.9, 40)
    ]
    assert grouped(pieces, CONFIG) == {376: [0, 2], 8: [1], 512: [3]}
    assert [bucket_of(bucket) for bucket in BUCKETS] == list(BUCKETS)


def test_a_piece_beyond_the_positions_is_refused():
    """5000 frames of 80 ms."""
    with pytest.raises(OutOfRange, match="400 s"):
        grouped([np.zeros(401 * SAMPLE_RATE_HZ, np.float32)], CONFIG)
