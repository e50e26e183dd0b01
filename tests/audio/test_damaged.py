"""Damaged recordings: refused by default; salvaged on request, and what was lost is told."""

import numpy as np
import pytest
import soundfile

from producer.errors import CorruptAudio, EmptyInput, NonFinite, ScribefarmError
from producer.job import AudioOptions
from producer.settings import AudioSettings
from tests.audio.test_like_ffmpeg import BIT_FOR_BIT, BY_ONE_STEP, heard, made
from tests.stage.made_amr import write_amr
from tests.stage.made_audio import noise, saved, wav_header, write_wav
from tests.stage.reference_audio import read_like_the_reference, resampler_like_ffmpeg
from worker.audio.losses import MAX_LOST, SALVAGED, Losses
from worker.audio.read_ahead import Reading
from worker.audio.recording import load_audio, open_recording

DAMAGES = ("cut", "hole", "rot")
# Every format, the damages in turn; in AMR zeros are pauses, which we read and the command drops.
KINDS = {
    f"{name}-{DAMAGES[number % 3]}": (ending, codec, *kinds[0], DAMAGES[number % 3])
    for number, (name, (ending, codec, kinds)) in enumerate((BIT_FOR_BIT | BY_ONE_STEP).items())
}


def damaged(path, damage):
    """Cut the file off, overwrite a tenth with zeros, or turn one bit in a thousand bytes."""
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) * 6 // 10 :]
    elif damage == "hole":
        start, length = len(content) // 2, len(content) // 10
        content[start : start + length] = bytes(length)
    else:
        rng = np.random.default_rng(len(content))
        for at in rng.integers(len(content) // 5, len(content) * 4 // 5, len(content) // 1000):
            content[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return path


def salvage(path):
    """Return the samples that a salvaged recording gives, and what it lost."""
    options = {"resampler": resampler_like_ffmpeg(), "is_salvaged": True}
    recording = open_recording(path, max_seconds=1e4, **options)
    return np.concatenate(list(recording)), recording.losses


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_salvage_gives_never_less_than_the_ffmpeg_command(tmp_path, name):
    """Where the command gives anything at all."""
    ending, codec, rate_hz, layout, damage = KINDS[name]
    path = damaged(made(tmp_path / f"a.{ending}", codec, rate_hz, layout), damage)
    try:
        expected = len(read_like_the_reference(path))
    except Exception:
        expected = 0
    try:
        actual = len(salvage(path)[0])
    except ScribefarmError:
        actual = 0
    assert actual >= expected


@pytest.mark.slow
def test_what_decodes_of_a_damaged_file_is_what_the_command_decodes(tmp_path):
    """A hole in an MP3 and in ALAC, a cut-off WAV: sample for sample."""
    for codec, ending, damage in (
        ("libmp3lame", "mp3", "hole"),
        ("alac", "m4a", "hole"),
        ("pcm_s24le", "wav", "cut"),
    ):
        path = damaged(made(tmp_path / f"{damage}.{ending}", codec, 44_100, "stereo"), damage)
        samples, losses = salvage(path)
        assert np.array_equal(samples, read_like_the_reference(path))
        assert losses
        with pytest.raises(CorruptAudio):
            heard(path)


def test_a_cut_off_wav_says_where_it_ends_and_how_much_is_missing(tmp_path):
    """Ten seconds declared, four there."""
    path = saved(tmp_path, wav_header(320_000) + noise(64_000).astype("<f2").tobytes())
    with pytest.raises(CorruptAudio, match="declares"):
        load_audio(path)
    samples, (lost,) = salvage(path)
    assert len(samples) == 64_000
    assert (lost.start_s, lost.duration_s, lost.reason) == (4.0, 6.0, "the file ends early")


@pytest.mark.parametrize("resampler", ["ffmpeg", "soxr_hq"])
def test_a_broken_flac_is_salvaged_by_either_library(tmp_path, resampler):
    """Half of it: the rest is counted by the header."""
    whole = tmp_path / "a.flac"
    soundfile.write(whole, noise(80_000), 16_000)
    path = saved(tmp_path, whole.read_bytes()[: whole.stat().st_size // 2])
    recording = open_recording(path, max_seconds=60, resampler=resampler, is_salvaged=True)
    num_samples = sum(map(len, recording))
    assert 20_000 < num_samples < 45_000
    assert recording.losses[0].start_s == pytest.approx(num_samples / 16_000)
    missing_s = sum(each.duration_s or 0 for each in recording.losses)
    assert missing_s <= 5.0 - num_samples / 16_000 + 1e-6


def test_samples_that_are_no_numbers_become_silence_and_are_told(tmp_path):
    """By default they end the recording."""
    samples = noise(32_000)
    samples[16_000:16_160] = np.nan
    path = write_wav(tmp_path / "a.wav", samples)
    with pytest.raises(NonFinite, match="frame 16000:"):
        load_audio(path)
    kept, (lost,) = salvage(path)
    assert not kept[16_000:16_160].any()
    assert (lost.start_s, lost.duration_s) == (1.0, pytest.approx(0.01))


def test_a_file_of_which_nothing_decodes_is_an_error_all_the_same(tmp_path):
    """An empty transcript would say that it was silent."""
    path = saved(tmp_path, b"ID3" + bytes(7) + b"\xff\xfb\x90\x00" + bytes(9000))
    with pytest.raises((CorruptAudio, EmptyInput, ScribefarmError)):
        salvage(path)


def test_telephone_pauses_are_read_whole_and_in_time_without_damage(tmp_path):
    """AMR with DTX: FFmpeg's own decoder drops the pauses, and all later times with them."""
    path = write_amr(tmp_path / "pauses.amr", has_pauses=True)
    talk, _ = load_audio(path)
    plain, _ = load_audio(write_amr(tmp_path / "plain.amr", has_pauses=False))
    assert len(talk) == len(plain)
    assert path.stat().st_size < 0.8 * (tmp_path / "plain.amr").stat().st_size
    third = len(talk) // 3
    assert np.std(talk[third:-third]) < 0.1 * np.std(talk[-third:])
    assert salvage(path)[1] == []


def test_the_result_tells_what_was_lost_and_the_flag_is_set(tmp_path):
    """As the reading thread delivers it, for a job that asks for it."""
    path = saved(tmp_path, wav_header(320_000) + bytes(64_000))
    delivered = []
    asked = AudioOptions(damaged="salvage")
    Reading(str(path), AudioSettings(), delivered.append, asked=asked).run()
    assert delivered[-1].flags == (SALVAGED,)
    assert delivered[-1].audio.lost[0].duration_s == 8.0
    Reading(str(path), AudioSettings(), delivered.append).run()
    assert isinstance(delivered[-1], CorruptAudio)


def test_losses_are_joined_where_they_meet_and_bounded_in_number():
    """A thousand broken packets are a hundred entries."""
    losses = Losses()
    losses.add(1.0, 0.5, "first")
    losses.add(1.0, 0.25, "second")
    assert [(each.start_s, each.duration_s, each.reason) for each in losses.found] == [
        (1.0, 0.75, "first")
    ]
    for number in range(1000):
        losses.add(2.0 + number, None, "x" * 9999)
    assert len(losses.found) == MAX_LOST
    assert losses.found[-1].duration_s is None
    assert max(len(each.reason) for each in losses.found) <= 200
