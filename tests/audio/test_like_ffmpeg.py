"""What the reference hears: our reader's samples beside the ffmpeg command's, file by file.

The table "What is read" of producer/README.md is these rows.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.stage.made_amr import write_amr
from tests.stage.reference_audio import ffmpeg, read_like_the_reference, resampler_like_ffmpeg
from worker.audio.recording import open_recording

README = Path(__file__).resolve().parents[2] / "producer" / "README.md"
CHANNELS = {"mono": 1, "stereo": 2, "3.0": 3, "quad": 4, "5.0": 5, "5.1": 6, "7.1": 8}
# By container and codec as we name them: ending, ffmpeg's encoder, then (rate, layout) of each.
BIT_FOR_BIT = {
    "wav/pcm_s16le": ("wav", "pcm_s16le", [
        (8_000, "mono"), (11_025, "stereo"), (16_000, "stereo"), (22_050, "mono"),
        (44_100, "3.0"), (44_100, "5.1"), (48_000, "quad"), (48_000, "7.1"), (192_000, "stereo")]),
    "wav/pcm_u8": ("wav", "pcm_u8", [(22_050, "mono"), (48_000, "stereo")]),
    "wav/pcm_s24le": ("wav", "pcm_s24le", [(48_000, "stereo"), (96_000, "5.1")]),
    "wav/pcm_s32le": ("wav", "pcm_s32le", [(44_100, "stereo")]),
    "wav/pcm_s64le": ("wav", "pcm_s64le", [(44_100, "stereo")]),
    "wav/pcm_f32le": ("wav", "pcm_f32le", [(16_000, "mono"), (48_000, "5.0")]),
    "wav/pcm_f64le": ("wav", "pcm_f64le", [(44_100, "mono")]),
    "wav/pcm_mulaw": ("wav", "pcm_mulaw", [(8_000, "mono")]),
    "wav/pcm_alaw": ("wav", "pcm_alaw", [(8_000, "stereo")]),
    "wav/adpcm_ms": ("wav", "adpcm_ms", [(44_100, "stereo")]),
    "w64/pcm_s16le": ("w64", "pcm_s16le", [(32_000, "stereo")]),
    "aiff/pcm_s16be": ("aiff", "pcm_s16be", [(44_100, "stereo")]),
    "aiff/pcm_s24be": ("aiff", "pcm_s24be", [(48_000, "mono")]),
    "au/pcm_s16be": ("au", "pcm_s16be", [(8_000, "mono")]),
    "caf/pcm_s16le": ("caf", "pcm_s16le", [(44_100, "stereo")]),
    "caf/alac": ("caf", "alac", [(44_100, "stereo")]),
    "flac/flac": ("flac", "flac", [
        (16_000, "mono"), (44_100, "stereo"), (48_000, "5.1"), (96_000, "stereo")]),
    "voc/pcm_u8": ("voc", "pcm_u8", [(22_050, "mono")]),
    "mp3/mp3": ("mp3", "libmp3lame", [(16_000, "mono"), (22_050, "stereo"), (44_100, "stereo")]),
    "mp3/mp2": ("mp2", "mp2", [(48_000, "stereo")]),
    "avi/mp3": ("avi", "libmp3lame", [(44_100, "stereo")]),
    "mpeg/mp2": ("mpg", "mp2", [(44_100, "stereo")]),
    "ogg/flac": ("oga", "flac", [(44_100, "stereo")]),
    "ogg/speex": ("spx", "libspeex", [(16_000, "mono")]),
    "mov/alac": ("m4a", "alac", [(96_000, "stereo")]),
    "mov/pcm_s16le": ("mov", "pcm_s16le", [(48_000, "stereo")]),
    "matroska/pcm_s24le": ("mkv", "pcm_s24le", [(48_000, "stereo")]),
    "matroska/flac": ("mkv", "flac", [(44_100, "stereo")]),
    "wv/wavpack": ("wv", "wavpack", [(44_100, "stereo")]),
    "tta/tta": ("tta", "tta", [(44_100, "stereo")]),
    "gsm/gsm": ("gsm", "libgsm", [(8_000, "mono")]),
    "amr/amr_nb": ("amr", "amr", [(8_000, "mono")]),
    "mov/amr_nb": ("3gp", "amr", [(8_000, "mono")]),
}  # fmt: skip
# Codecs that decode in floating point, by another transform in FFmpeg 8, which PyAV carries: of
# 10,000 samples at most 10 differ, by one step of 16 bits.
BY_ONE_STEP = {
    "ogg/vorbis": ("ogg", "libvorbis", [(16_000, "mono"), (44_100, "stereo")]),
    "ogg/opus": ("opus", "libopus", [(48_000, "mono"), (48_000, "stereo")]),
    "mov/aac": ("m4a", "aac", [(16_000, "mono"), (44_100, "stereo"), (48_000, "5.1")]),
    "aac/aac": ("aac", "aac", [(32_000, "mono")]),
    "mpegts/aac": ("ts", "aac", [(48_000, "stereo")]),
    "flv/aac": ("flv", "aac", [(44_100, "stereo")]),
    "matroska/opus": ("webm", "libopus", [(48_000, "stereo")]),
    "matroska/vorbis": ("webm", "libvorbis", [(44_100, "mono")]),
    "matroska/ac3": ("mkv", "ac3", [(48_000, "5.1")]),
    "ac3/ac3": ("ac3", "ac3", [(48_000, "stereo")]),
    "eac3/eac3": ("eac3", "eac3", [(48_000, "5.1")]),
    "asf/wmav1": ("wma", "wmav1", [(22_050, "mono")]),
    "asf/wmav2": ("wma", "wmav2", [(44_100, "stereo")]),
}  # fmt: skip
MOST_STEPS_SHARE = 1e-3
QUICK = ("wav/pcm_s16le", "flac/flac", "mp3/mp3", "ogg/opus")


def cases(rows):
    """Return one case a rate and layout; those of `QUICK` run always."""
    return [
        pytest.param(
            ending, codec, rate_hz, layout, id=f"{name}-{rate_hz}-{layout}",
            marks=[] if name in QUICK else [pytest.mark.slow],
        )
        for name, (ending, codec, kinds) in rows.items()
        for rate_hz, layout in kinds
    ]  # fmt: skip


def made(path, codec, rate_hz, layout):
    """Write a second of tones that rise and noise, other ones in each channel."""
    if codec == "amr":
        return write_amr(path, has_pauses=False)
    channels = "|".join(
        f"0.2*sin({690 * (i + 1)}*t*(1+t))+0.1*(random({i})-0.5)" for i in range(CHANNELS[layout])
    )
    source = f"aevalsrc='{channels}':c={layout}:s={rate_hz}:d=1"
    ffmpeg("-f", "lavfi", "-i", source, "-c:a", codec, "-strict", "-2", path)
    return path


def heard(path, **options):
    """Return what our reader gives with the resampler of the installed ffmpeg."""
    recording = open_recording(path, max_seconds=1e4, resampler=resampler_like_ffmpeg(), **options)
    return np.concatenate(list(recording))


@pytest.mark.parametrize(("ending", "codec", "rate_hz", "layout"), cases(BIT_FOR_BIT))
def test_samples_equal_those_of_the_ffmpeg_command(tmp_path, ending, codec, rate_hz, layout):
    """Decoding, mix and resampling: every sample, and as many."""
    path = made(tmp_path / f"a.{ending}", codec, rate_hz, layout)
    expected = read_like_the_reference(path)
    assert len(expected) > 14_000
    assert np.array_equal(heard(path), expected)


@pytest.mark.parametrize(("ending", "codec", "rate_hz", "layout"), cases(BY_ONE_STEP))
def test_samples_of_lossy_codecs_are_a_step_apart_at_most(tmp_path, ending, codec, rate_hz, layout):
    """As many, and nearly all are the same."""
    path = made(tmp_path / f"a.{ending}", codec, rate_hz, layout)
    expected, actual = read_like_the_reference(path), heard(path)
    assert len(actual) == len(expected) > 14_000
    steps = np.abs(actual - expected) * 32768
    assert steps.max() <= 1
    assert np.mean(steps > 0) <= MOST_STEPS_SHARE


@pytest.mark.slow
def test_joined_mp3_of_other_rates_and_channels_are_heard_on(tmp_path):
    """With the tags between them; the change begins a new filter, as in the command."""
    parts = []
    for number, kind in enumerate([(44_100, "stereo"), (22_050, "mono"), (44_100, "mono")]):
        parts.append(made(tmp_path / f"{number}.mp3", "libmp3lame", *kind).read_bytes())
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(parts))
    assert np.array_equal(heard(path), read_like_the_reference(path))


@pytest.mark.slow
def test_of_a_films_tracks_the_one_that_ffmpeg_takes_is_heard(tmp_path):
    """The default one, else the one with most channels; the picture is not read."""
    first = made(tmp_path / "1.wav", "pcm_s16le", 44_100, "mono")
    second = made(tmp_path / "2.wav", "pcm_s16le", 48_000, "5.1")
    film = ["-f", "lavfi", "-i", "testsrc=d=1:s=64x48", "-i", first, "-i", second]
    film += ["-map", "0", "-map", "1", "-map", "2", "-c:v", "mpeg4", "-c:a", "flac"]
    for name, default in (("none", "0"), ("first", "default")):
        path = tmp_path / f"{name}.mkv"
        ffmpeg(*film, "-disposition:a:0", default, "-disposition:a:1", "0", path)
        expected = read_like_the_reference(path)
        assert np.array_equal(heard(path), expected)
        assert np.array_equal(read_like_the_reference(first), expected) == (default != "0")


@pytest.mark.slow
def test_gaps_and_late_starts_in_the_timestamps_are_neither_filled_nor_cut(tmp_path):
    """As in the command, whose resampler does not follow timestamps by default."""
    source = made(tmp_path / "a.wav", "pcm_s16le", 48_000, "stereo")
    late, cut = tmp_path / "late.mp4", tmp_path / "cut.mp4"
    ffmpeg("-itsoffset", "2", "-i", source, "-c:a", "alac", late)
    ffmpeg("-i", source, "-c:a", "alac", tmp_path / "whole.mp4")
    ffmpeg("-ss", "0.31", "-i", tmp_path / "whole.mp4", "-c", "copy", cut)
    for path in (late, cut):
        assert np.array_equal(heard(path), read_like_the_reference(path))


def test_floats_beyond_full_scale_are_clipped_as_the_command_clips_them(tmp_path):
    """The reference hears 16 bits; so do we, of a float file too."""
    source = "aevalsrc='3*sin(900*t)':s=44100:d=1"
    path = tmp_path / "loud.wav"
    ffmpeg("-f", "lavfi", "-i", source, "-c:a", "pcm_f32le", path)
    expected = read_like_the_reference(path)
    assert (expected.max(), expected.min()) == (32767 / 32768, -1)
    assert np.array_equal(heard(path), expected)


def test_channels_that_ffmpeg_cannot_place_are_averaged(tmp_path):
    """Nine of them: the command refuses to mix."""
    samples = np.random.default_rng(0).normal(0, 0.1, (16_000, 9))
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(heard(path), samples.mean(axis=1), atol=1 / 32768)


def test_the_table_of_formats_is_what_is_tested():
    """Each row names a container, a codec, and how near the samples are to the command's."""
    table = README.read_text().partition("## What is read")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| [^|]+\| [^|]+\| ([^|]+?) \|", table, re.MULTILINE)
    said = {f"{container}/{codec}": like for container, codec, like in rows}
    assert said == {
        **dict.fromkeys(BIT_FOR_BIT, "equal"),
        **dict.fromkeys(BY_ONE_STEP, "one step"),
    }
