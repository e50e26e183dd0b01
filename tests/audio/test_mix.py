"""Channels that cancel each other out are heard; all other stereo is the plain mean, bit for bit."""

import numpy as np
import pytest
import soundfile

from producer.settings import AudioSettings
from tests.stage.made_audio import noise, write_wav
from worker.audio.mix import CANCELLED_BELOW, Mixer, mix_to_mono
from worker.audio.read_ahead import PHASE_CANCELLED, Reading
from worker.audio.reader import BLOCK_FRAMES, Block, layout_of
from worker.audio.recording import load_audio


def stereo(left, right):
    return np.stack([left, right], axis=1).astype(np.float32)


def block(frames):
    return Block(frames, 16_000, layout_of(frames.shape[1]))


def speech(num_frames=BLOCK_FRAMES, seed=0):
    """Return noise of the level of speech, about -20 dB."""
    return np.random.default_rng(seed).normal(0, 0.1, num_frames)


def test_left_equal_to_minus_right_is_heard_and_noted():
    """A cable with its wires exchanged, or a tape's: the mean is silence."""
    left = speech()
    mixer = Mixer()
    assert np.abs(mix_to_mono(stereo(left, -left))).max() == 0.0
    np.testing.assert_array_equal(mixer.mix(block(stereo(left, -left))), left.astype(np.float32))
    assert mixer.has_cancelled


@pytest.mark.parametrize("gain", [0.75, 0.9, 1.0, 1.3])
def test_channels_of_unequal_level_with_noise_of_their_own_are_found(gain):
    """Two tracks of a tape are never exactly opposite."""
    left = speech()
    right = -gain * left + speech(seed=1) * 0.02
    mixer = Mixer()
    mixed = mixer.mix(block(stereo(left, right)))
    assert mixer.has_cancelled
    assert np.corrcoef(mixed, left)[0, 1] > 0.99


@pytest.mark.parametrize(
    "right",
    [
        speech(),  # the same
        speech() * 0.3,  # panned
        speech(seed=1),  # another speaker
        np.zeros(BLOCK_FRAMES),  # one dead channel
        np.roll(speech(), 9),  # microphones apart
        -0.5 * speech() + 0.8 * speech(seed=2),  # a stereo effect, correlation -0.53
    ],
)
def test_ordinary_stereo_is_its_mean_bit_for_bit(right):
    """The mix is at least 11 dB stronger than what counts as cancelled."""
    frames = stereo(speech(), right)
    mixer = Mixer()
    assert np.array_equal(mixer.mix(block(frames)), mix_to_mono(frames))
    assert not mixer.has_cancelled
    power = np.mean(frames**2)
    assert np.mean(mix_to_mono(frames) ** 2) > 3 * CANCELLED_BELOW * power


def test_silence_and_dither_are_no_cancellation():
    """Digital silence, and one step of 16 bits with opposite signs."""
    for value in (0.0, 2.0**-15):
        mixer = Mixer()
        left = np.full(BLOCK_FRAMES, value)
        mixer.mix(block(stereo(left, -left)))
        assert not mixer.has_cancelled


def test_each_block_is_judged_by_itself():
    """A hiss or an announcement before the fault decides nothing for what follows."""
    mixer = Mixer()
    ordinary, left = stereo(speech(), speech(seed=1)), speech(seed=2)
    assert np.array_equal(mixer.mix(block(ordinary)), mix_to_mono(ordinary))
    np.testing.assert_array_equal(mixer.mix(block(stereo(left, -left))), left.astype(np.float32))
    assert np.array_equal(mixer.mix(block(ordinary)), mix_to_mono(ordinary))
    assert mixer.has_cancelled


def test_more_channels_and_one_are_mixed_as_ever():
    """Opposite microphones of an array may cancel; only stereo has a wrong cable."""
    for channels in (1, 4):
        frames = noise(1000, channels)
        assert np.array_equal(Mixer().mix(block(frames)), mix_to_mono(frames))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64"])
def test_samples_of_any_type_are_negated_about_their_own_zero(dtype):
    """The lowest integer has no opposite: it becomes the highest."""
    left = speech() * 3  # beyond full scale here and there
    frames = np.stack([left, -left], axis=1).clip(-1, 1)
    if dtype == "uint8":
        samples = (frames * 127 + 128).astype(dtype)
    elif dtype.startswith("int"):
        samples = (
            (frames * -float(np.iinfo(dtype).min)).clip(None, np.iinfo(dtype).max).astype(dtype)
        )
    else:
        samples = frames.astype(dtype)
    mixer = Mixer()
    mended = mixer.mended(block(samples))
    assert mixer.has_cancelled
    assert mended.samples.dtype == dtype
    np.testing.assert_allclose(mended.floats[:, 0], mended.floats[:, 1], atol=1.1 / 128)


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_a_recording_with_the_fault_is_read_and_flagged(tmp_path, container):
    """By either library; the end of the reading carries the flag."""
    left = 0.3 * np.sin(np.arange(80_000) * 0.1)
    path = tmp_path / "a"
    soundfile.write(path, stereo(left, -left), 16_000, format=container)
    samples, _ = load_audio(path)
    assert np.corrcoef(samples, left)[0, 1] > 0.9
    delivered = []
    Reading(str(path), AudioSettings(), delivered.append).run()
    assert delivered[-1].flags == (PHASE_CANCELLED,)
    plain = write_wav(tmp_path / "b.wav", stereo(left, left))
    Reading(str(plain), AudioSettings(), delivered.append).run()
    assert delivered[-1].flags == ()
