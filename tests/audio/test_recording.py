"""The capped pipeline: what is accepted, what is refused, in which order, and as which error."""

import contextlib
import io
import itertools
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    InvalidOptions,
    NonFinite,
    OutOfRange,
    ScribefarmError,
    SourceNotFound,
    UnsupportedFormat,
)
from tests.stage.reference_audio import read_like_the_reference
from worker.audio import recording as audio
from worker.audio.reader import BLOCK_FRAMES
from worker.audio.recording import (
    SAMPLE_RATE_HZ,
    LinearResampler,
    load_audio,
    mix_to_mono,
    open_recording,
    probe,
    validate_max_seconds,
)

ROOT = Path(__file__).parents[2]


def noise(num_frames, channels=1):
    return np.random.default_rng(0).normal(0, 0.1, (num_frames, channels)).astype(np.float32)


def write_wav(path, samples, rate_hz=SAMPLE_RATE_HZ, subtype="FLOAT", container="WAV"):
    soundfile.write(path, samples, rate_hz, subtype=subtype, format=container)
    return path


def wav_header(data_bytes, rate_hz=16_000, channels=1, riff_bytes=None):
    riff_bytes = 36 + data_bytes if riff_bytes is None else riff_bytes
    fmt = struct.pack(
        "<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * 2 % 2**32, 2 * channels % 65536, 16
    )
    riff = b"RIFF" + struct.pack("<I", riff_bytes % 2**32)
    return riff + b"WAVEfmt " + fmt + b"data" + struct.pack("<I", data_bytes)


def saved(tmp_path, content):
    path = tmp_path / "recording"
    path.write_bytes(content)
    return path


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
    monkeypatch.setattr(audio, "MAX_DECODED_SAMPLES", 100_000)
    exact = write_wav(tmp_path / "a.wav", noise(100_001))
    with pytest.raises(OutOfRange, match="100000 samples"):
        load_audio(exact, max_seconds=1e6)
    growing = write_wav(tmp_path / "b.wav", noise(60_000), 8_000)
    with pytest.raises(OutOfRange, match="100000 samples"):
        load_audio(growing, max_seconds=1e6)


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
def test_resampling_in_blocks_equals_resampling_at_once(tmp_path, rate_hz):
    """Streaming gives python-soxr's one-shot result, sample for sample."""
    source = noise(3 * BLOCK_FRAMES + 77)
    samples, _ = load_audio(write_wav(tmp_path / "a.wav", source, rate_hz))
    assert np.array_equal(samples, soxr.resample(source[:, 0], rate_hz, 16_000, quality="HQ"))


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


@settings(max_examples=40, deadline=None)
@given(
    source=st.tuples(
        st.sampled_from([1_000, 8_000, 16_000, 44_100, 768_000]),
        st.integers(1, 12),
        st.integers(0, 5_000),
    ),
    max_seconds=st.floats(0.001, 1.0),
    resampler=st.sampled_from(["soxr_hq", "linear"]),
)
def test_every_configuration_gives_samples_or_a_typed_error(
    tmp_path_factory, source, max_seconds, resampler
):
    """Too long, empty, or finite mono samples of the duration of the source."""
    rate_hz, channels, num_frames = source
    path = tmp_path_factory.getbasetemp() / "configuration.wav"
    write_wav(path, noise(num_frames, channels), rate_hz)
    try:
        samples, _ = load_audio(path, max_seconds=max_seconds, resampler=resampler)
    except OutOfRange:
        assert num_frames / rate_hz > max_seconds
    except EmptyInput:
        assert num_frames * 16_000 / rate_hz < 1
    else:
        assert num_frames / rate_hz <= max_seconds
        assert abs(len(samples) - num_frames * 16_000 / rate_hz) <= 1
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


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"),
     ("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("WAV", "IMA_ADPCM"),
     ("MP3", "MPEG_LAYER_III")],
)  # fmt: skip
def test_a_file_that_breaks_off_is_corrupt_and_not_a_shorter_transcript(
    tmp_path, container, subtype
):
    """Half a file raises, whichever reader it takes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(64_000), 16_000, format=container, subtype=subtype)
    whole = buffer.getvalue()
    load_audio(saved(tmp_path, whole))
    with pytest.raises(CorruptAudio):
        load_audio(saved(tmp_path, whole[: len(whole) // 2]))


@pytest.mark.parametrize(
    ("size", "riff_bytes"),
    [(2**32 - 1, None), (0x7FFFF000, None), (0, 36), (0, 0), (0, 2**32 - 1)],
)
def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path, size, riff_bytes):
    """Pipes and recorders that died leave sizes of all ones, near 2 GiB, or zero."""
    header = wav_header(size, riff_bytes=riff_bytes)
    samples, _ = load_audio(saved(tmp_path, header + b"\1\0" * 800))
    assert len(samples) == 800


def test_tags_behind_the_last_mp3_frame_are_no_damage(tmp_path):
    """APE and ID3v1 tags are common in archives of MP3."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(16_000), 16_000, format="MP3")
    plain, _ = load_audio(saved(tmp_path, buffer.getvalue()))
    tags = b"\0" * 100 + b"APETAGEX" + b"\0" * 24 + b"TAG" + b"x" * 125
    tagged, _ = load_audio(saved(tmp_path, buffer.getvalue() + tags))
    assert np.array_equal(plain, tagged)


def test_chained_ogg_is_read_to_the_end_of_its_last_stream(tmp_path):
    """Two Ogg files in one: libsndfile would stop after the first."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(32_000), 16_000, format="OGG", subtype="VORBIS")
    once, _ = load_audio(saved(tmp_path, buffer.getvalue()))
    twice, _ = load_audio(saved(tmp_path, buffer.getvalue() * 2))
    assert len(twice) >= 1.99 * len(once)


def test_channels_count_the_same(tmp_path):
    """Stereo is 0.5 (L + R), more channels their mean, in libsndfile's and FFmpeg's hands."""
    samples = noise(4000, 12)
    expected = samples.mean(axis=1, dtype=np.float32)
    assert np.array_equal(mix_to_mono(samples), expected)
    loaded, _ = load_audio(write_wav(tmp_path / "a.wav", samples))
    assert np.array_equal(loaded, expected)
    unfinished = wav_header(0, channels=12, riff_bytes=36)
    pcm = (samples * 32768).astype("<i2")
    loaded, header = load_audio(saved(tmp_path, unfinished + pcm.tobytes()))
    assert header.format == "wav/pcm_s16le"
    np.testing.assert_allclose(loaded, (pcm / 32768).mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 768_001, 2**31, 2**32 - 1])
def test_an_absurd_rate_is_refused(tmp_path, rate_hz):
    """Whatever the libraries make of it, the error is typed and permanent."""
    with pytest.raises((OutOfRange, CorruptAudio, UnsupportedFormat)):
        load_audio(saved(tmp_path, wav_header(200, rate_hz) + b"\1\0" * 100))


@pytest.mark.parametrize("channels", [0, 65, 300, 65535])
def test_an_absurd_number_of_channels_is_refused(tmp_path, channels):
    """0 and 300 channels included."""
    with pytest.raises((OutOfRange, CorruptAudio, UnsupportedFormat, EmptyInput)):
        load_audio(saved(tmp_path, wav_header(200, channels=channels) + b"\1\0" * 100))


def test_what_is_no_audio_file_is_unsupported_and_never_waited_for(tmp_path):
    """Text, raw PCM, playlists, folders, pipes and devices."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n"
    for content in (b"This is text.\n" * 99, noise(4000).tobytes(), playlist):
        with pytest.raises(UnsupportedFormat):
            load_audio(saved(tmp_path, content))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path, pipe, Path("/dev/zero")):
        with pytest.raises(UnsupportedFormat, match="regular file"):
            load_audio(path)


def test_a_video_without_sound_says_so(tmp_path):
    """The error names what was found instead."""
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    with pytest.raises(UnsupportedFormat, match="no audio stream"):
        probe(path)


def test_a_name_without_a_file_is_not_found(tmp_path):
    """Absent, below a file, too long, or with a NUL in its name."""
    for path in (tmp_path / "absent", "/etc/hostname/x", "n" * 5000, "a\0b"):
        with pytest.raises(SourceNotFound):
            probe(path)


def test_an_unknown_resampler_is_an_invalid_option(tmp_path):
    """Before the file is opened."""
    with pytest.raises(InvalidOptions, match="soxr_hq"):
        load_audio(tmp_path / "absent", resampler="cubic")


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


@pytest.mark.archive
@pytest.mark.parametrize("number", ["1688", "1998", "2033", "2414", "2609"])
def test_16_khz_flac_equals_the_reference_reader_bit_for_bit(shared_data, number):
    """No resampling: our samples are openai-whisper's."""
    path = shared_data / "audio" / "english" / f"librispeech-test-other-{number}.flac"
    samples, _ = load_audio(path, max_seconds=100)
    assert np.array_equal(samples, read_like_the_reference(path))


@pytest.mark.archive
def test_every_archive_file_is_read_whole_or_refused_with_reason(shared_data):
    """The manifest's durations hold; odd files end as typed errors."""
    refused = {}
    for path in sorted((shared_data / "audio").glob("*/*")):
        if path.parent.name == "long":
            continue
        try:
            load_audio(path, max_seconds=600)
        except ScribefarmError as error:
            refused[path.name] = error.code
    assert refused == {
        "p001.flac": "corrupt_audio",
        "test-44100Hz-le-1ch-4bytes-early-eof-no-data.wav": "corrupt_audio",
        "test-44100Hz-le-1ch-4bytes-early-eof.wav": "corrupt_audio",
        "test-44100Hz-le-1ch-4bytes-incomplete-chunk.wav": "corrupt_audio",
        "test-8000Hz-le-3ch-5S-36bit.wav": "unsupported_format",
        "test-8000Hz-le-3ch-5S-45bit.wav": "unsupported_format",
        "test-8000Hz-le-3ch-5S-53bit.wav": "unsupported_format",
        "test_16KHZ_3channel_400-800-1600Hz.raw": "unsupported_format",
        "test_16KHZ_mono_400Hz.raw": "unsupported_format",
        "test_split_10HZ_mono.raw": "unsupported_format",
        "test_split_10HZ_stereo.raw": "unsupported_format",
    }


def test_damaged_recordings_end_as_samples_or_as_typed_errors():
    """1,500 seeded mutations in child processes; `make fuzz` runs 20,000."""
    command = [sys.executable, "tests/fuzz/run.py", "--mutations", "1500", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
