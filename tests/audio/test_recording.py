"""The capped pipeline: what is accepted, what is refused, in which order, and as which error."""

import contextlib
import math

import numpy as np
import psutil
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import CorruptAudio, EmptyInput, NonFinite, OutOfRange, ScribefarmError
from tests.stage.made_audio import noise, saved, wav_header, write_wav
from worker.audio import caps
from worker.audio.caps import validate_max_seconds
from worker.audio.mix import mix_to_mono
from worker.audio.reader import BLOCK_FRAMES
from worker.audio.recording import (
    RESAMPLERS,
    load_audio,
    open_recording,
    probe,
)


@pytest.mark.parametrize("cap", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_a_senseless_cap_is_refused_before_the_file_is_opened(cap):
    """The file does not exist, yet the cap is what is complained about."""
    with pytest.raises(OutOfRange, match="max_seconds"):
        load_audio("/nowhere", max_seconds=cap)
    with pytest.raises(OutOfRange):
        validate_max_seconds(cap)


def test_a_second_at_44100_hz_passes_a_cap_of_one_second(tmp_path):
    """The cap holds at the source rate, boundary included."""
    path = write_wav(tmp_path / "a.wav", noise(44_100), 44_100)
    samples, header = load_audio(path, max_seconds=1.0)
    assert (len(samples), samples.dtype, header.duration_s) == (16_000, np.float32, 1.0)


def test_one_frame_more_than_the_cap_is_refused_from_the_header(tmp_path):
    """An exact header over the cap raises when the recording is opened."""
    path = write_wav(tmp_path / "a.wav", noise(44_101), 44_100)
    with pytest.raises(OutOfRange, match="duration") as caught:
        open_recording(path, max_seconds=1.0)
    assert caught.value.value == 44_101 / 44_100


def test_a_header_that_claims_ten_hours_is_refused_by_its_claim(tmp_path):
    """44 bytes that claim 10 hours are too long first, and cut off only under a larger cap."""
    path = saved(tmp_path, wav_header(10 * 3600 * 32_000))
    assert probe(path).duration_s == 36_000
    with pytest.raises(OutOfRange, match="duration"):
        load_audio(path)
    with pytest.raises(CorruptAudio, match="declares"):
        load_audio(path, max_seconds=40_000)


@pytest.mark.parametrize("container", ["OGG", "MP3"])
def test_a_length_that_is_not_declared_is_capped_while_decoding(tmp_path, container):
    """No header refuses it; the running count does, within a block of the cap."""
    path = tmp_path / "a"
    soundfile.write(path, noise(20 * 16_000), 16_000, format=container)
    assert not probe(path).exact
    recording = open_recording(path, max_seconds=5.0)
    with pytest.raises(OutOfRange, match="duration"):
        list(recording)
    assert 5.0 < recording.duration_s < 5.0 + 2 * BLOCK_FRAMES / 16_000


def test_the_load_ceiling_holds_whatever_the_cap(tmp_path, monkeypatch):
    """A load above MAX_DECODED_SAMPLES is refused, from the header and while decoding."""
    monkeypatch.setattr(caps, "MAX_DECODED_SAMPLES", 100_000)
    exact = write_wav(tmp_path / "a.wav", noise(100_001))
    with pytest.raises(OutOfRange, match="100000 samples"):
        load_audio(exact, max_seconds=1e6)
    growing = write_wav(tmp_path / "b.wav", noise(60_000), 8_000)
    with pytest.raises(OutOfRange, match="100000 samples"):
        load_audio(growing, max_seconds=1e6)


@settings(max_examples=40, deadline=None)
@given(
    source=st.tuples(
        st.sampled_from([1_000, 8_000, 16_000, 44_100, 768_000]),
        st.integers(1, 12),
        st.integers(0, 5_000),
    ),
    max_seconds=st.floats(0.001, 1.0),
    resampler=st.sampled_from(RESAMPLERS),
)
def test_every_configuration_gives_samples_or_a_typed_error(
    tmp_path_factory, source, max_seconds, resampler
):
    """Too long, empty, or finite mono samples of the duration of the source."""
    rate_hz, channels, num_frames = source
    # FFmpeg's filter has 32 taps of the lower rate: of less than half of it comes nothing, and of
    # less than two of them less than there was.
    taps = 32 * max(1, rate_hz / 16_000)
    is_short = resampler.startswith("ffmpeg") and rate_hz != 16_000 and num_frames < 2 * taps
    path = tmp_path_factory.getbasetemp() / "configuration.wav"
    write_wav(path, noise(num_frames, channels), rate_hz)
    try:
        samples, _ = load_audio(path, max_seconds=max_seconds, resampler=resampler)
    except OutOfRange:
        assert num_frames / rate_hz > max_seconds
    except EmptyInput:
        assert num_frames * 16_000 / rate_hz < 1 or is_short
    else:
        assert num_frames / rate_hz <= max_seconds
        missing = num_frames * 16_000 / rate_hz - len(samples)
        assert -1 <= missing <= (taps * 16_000 / rate_hz if is_short else 1)
        assert np.isfinite(samples).all()


def test_no_samples_is_empty_input_after_decoding_or_after_resampling(tmp_path):
    """The message says which of the two it was."""
    with pytest.raises(EmptyInput, match="after decoding"):
        load_audio(write_wav(tmp_path / "a.wav", noise(0)))
    with pytest.raises(EmptyInput, match="after resampling"):
        load_audio(write_wav(tmp_path / "b.wav", noise(1), 48_000), resampler="linear")
    with pytest.raises(EmptyInput, match="byte"):
        load_audio(saved(tmp_path, b""))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("frame", [0, BLOCK_FRAMES + 17])
def test_a_sample_that_is_no_number_is_named_by_its_frame(tmp_path, poison, frame):
    """NaN in any channel never becomes text."""
    samples = noise(BLOCK_FRAMES + 100, 2)
    samples[frame, 1] = poison
    with pytest.raises(NonFinite, match=f"frame {frame}:"):
        load_audio(write_wav(tmp_path / "a.wav", samples))


def test_an_absurd_amplitude_is_out_of_range(tmp_path):
    """Finite samples whose mel power would overflow float32 are refused as well."""
    samples = noise(100)
    samples[7] = 1e30
    with pytest.raises(OutOfRange, match=r"frame 7: amplitude"):
        load_audio(write_wav(tmp_path / "a.wav", samples))


def test_channels_count_the_same(tmp_path):
    """With the resamplers other than FFmpeg's: the mean, whoever decodes."""
    samples = noise(4000, 12)
    expected = samples.mean(axis=1, dtype=np.float32)
    assert np.array_equal(mix_to_mono(samples), expected)
    loaded, _ = load_audio(write_wav(tmp_path / "a.wav", samples), resampler="soxr_hq")
    assert np.array_equal(loaded, expected)
    unfinished = wav_header(0, channels=12, riff_bytes=36)
    pcm = (samples * 32768).astype("<i2")
    path = saved(tmp_path, unfinished + pcm.tobytes())
    loaded, header = load_audio(path, resampler="soxr_hq")
    assert header.format == "wav/pcm_s16le"
    np.testing.assert_allclose(loaded, (pcm / 32768).mean(axis=1), atol=1e-6)


def test_no_descriptor_outlives_a_recording(tmp_path):
    """Read to the end, left early, refused or broken: the file is closed."""
    good = write_wav(tmp_path / "a.wav", noise(1000))
    ogg = tmp_path / "a.ogg"
    soundfile.write(ogg, noise(16_000), 16_000)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(wav_header(1000) + b"\0" * 10)
    before = psutil.Process().num_fds()
    for path in (good, ogg, bad):
        for cap in (30.0, 0.01):
            with (
                pytest.raises(ScribefarmError)
                if path == bad or cap < 1
                else contextlib.nullcontext()
            ):
                load_audio(path, max_seconds=cap)
    with open_recording(ogg, max_seconds=30):
        pass
    assert psutil.Process().num_fds() == before
