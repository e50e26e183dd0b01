"""Resampling: in blocks as at once, and equal rates bit for bit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidOptions, OutOfRange
from tests.stage.made_audio import noise, write_wav
from worker.audio.reader import BLOCK_FRAMES, Block
from worker.audio.recording import load_audio
from worker.audio.resample import LinearResampler, make_converter


def test_another_rate_is_refused_while_auto_resample_is_off(tmp_path):
    """A mismatch is out_of_range; the right rate passes."""
    with pytest.raises(OutOfRange, match="auto_resample"):
        load_audio(write_wav(tmp_path / "a.wav", noise(8000), 8000), auto_resample=False)
    samples, _ = load_audio(write_wav(tmp_path / "b.wav", noise(800)), auto_resample=False)
    assert len(samples) == 800


@pytest.mark.parametrize("resampler", ["soxr_hq", "linear"])
def test_equal_rates_change_no_bit(tmp_path, resampler):
    """16 kHz mono float samples come back as they are."""
    expected = noise(200_000)
    samples, _ = load_audio(write_wav(tmp_path / "a.wav", expected), resampler=resampler)
    assert np.array_equal(samples, expected[:, 0])


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_soxr_in_blocks_equals_soxr_at_once(tmp_path, rate_hz):
    """Streaming gives python-soxr's one-shot result, sample for sample."""
    source = noise(3 * BLOCK_FRAMES + 77)
    path = write_wav(tmp_path / "a.wav", source, rate_hz)
    samples, _ = load_audio(path, resampler="soxr_hq")
    assert np.array_equal(samples, soxr.resample(source[:, 0], rate_hz, 16_000, quality="HQ"))


@pytest.mark.parametrize("name", ["ffmpeg", "ffmpeg6"])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_ffmpeg_in_blocks_equals_ffmpeg_at_once(name, rate_hz, dtype):
    """However the source is cut, sample for sample; its rounding is to 16 bits."""
    rng = np.random.default_rng(rate_hz)
    samples = rng.normal(0, 0.2, (30_011, 2))
    if dtype[0] in "iu":
        limits = np.iinfo(dtype)
        half = (limits.max - limits.min) / 2
        samples = (samples * half + (limits.min + limits.max + 1) // 2).clip(limits.min, limits.max)
    whole = Block(samples.astype(dtype), rate_hz, "stereo")
    cuts = [0, 1, 3, 40, 41, *sorted(rng.integers(42, 30_000, 5)), 30_011]

    def converted(blocks):
        converter = make_converter(name, whole, 16_000)
        return np.concatenate([*map(converter.convert, blocks), converter.finish()])

    blocks = [replace(whole, samples=whole.samples[a:b]) for a, b in itertools.pairwise(cuts)]
    once = converted([whole])
    assert np.array_equal(converted(blocks), once)
    assert np.array_equal(once * 32768, np.round(once * 32768))
    assert abs(len(once) - 30_011 * 16_000 / rate_hz) <= 1


@given(
    rate_hz=st.sampled_from([1_000, 1_234, 8_000, 11_025, 44_100, 48_000]),
    num_frames=st.integers(0, 3_000),
    cuts=st.lists(st.integers(0, 3_000), max_size=6),
)
def test_linear_blocks_equal_interpolation_at_once(rate_hz, num_frames, cuts):
    """floor(n * to / from) samples on the line between neighbours, however the source is cut."""
    source = noise(num_frames)[:, 0]
    resampler = LinearResampler(rate_hz, 16_000)
    bounds = [0, *sorted(min(cut, num_frames) for cut in cuts), num_frames]
    pieces = [
        resampler.resample_chunk(source[start:stop], last=stop_index == len(bounds) - 1)
        for stop_index, (start, stop) in enumerate(itertools.pairwise(bounds), 1)
    ]
    actual = np.concatenate(pieces)
    assert len(actual) == num_frames * 16_000 // rate_hz
    if num_frames:
        positions = np.arange(len(actual)) * rate_hz / 16_000
        expected = np.interp(positions, np.arange(num_frames), source)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_an_unknown_resampler_is_an_invalid_option(tmp_path):
    """Before the file is opened."""
    with pytest.raises(InvalidOptions, match="soxr_hq"):
        load_audio(tmp_path / "absent", resampler="cubic")
