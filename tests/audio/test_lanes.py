"""Channels and tracks of one file: mixed, one alone, or each for itself."""

import av
import numpy as np
import pytest

from producer.errors import OutOfRange
from producer.job import AudioOptions
from producer.settings import AudioSettings
from tests.stage.made_audio import noise, write_wav
from worker.audio.lanes import SideBySide, mix_of
from worker.audio.read_ahead import CHANNELS_ALIKE, End, Reading
from worker.audio.recording import load_audio, open_recording

NUM_FRAMES = 3 * 44_100 + 17


def voices(channels):
    """Return unrelated noises, one a channel."""
    rng = np.random.default_rng(1)
    return rng.normal(0, 0.1, (NUM_FRAMES, channels)).astype(np.float32)


def read(path, **asked):
    """Return the whole recording's samples, and what the reading says at its end."""
    delivered = []
    settings = AudioSettings(listen=False)
    reading = Reading(str(path), settings, delivered.append, asked=AudioOptions(**asked))
    reading.run()
    *blocks, end = delivered[1:]
    assert isinstance(end, End), end
    return np.concatenate(blocks), end


def own_recording(folder, channel, **kind):
    """Return the samples of a channel that is a file of its own."""
    path = write_wav(folder / "own.wav", channel, **kind)
    return load_audio(str(path))[0]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_each_channel_is_what_it_is_as_a_recording_of_its_own(tmp_path, rate_hz, subtype):
    frames = voices(3)
    path = write_wav(tmp_path / "call.wav", frames, rate_hz, subtype)
    split, end = read(path, channels="split")
    assert split.shape[1] == 4
    assert [ended.lane for ended in end.lanes] == [(0, 1), (1, 2), (2, 3)]
    for channel in range(3):
        own = own_recording(tmp_path, frames[:, channel], rate_hz=rate_hz, subtype=subtype)
        np.testing.assert_array_equal(split[:, channel], own)
        one, _ = read(path, channels=channel + 1)
        np.testing.assert_array_equal(one, own)
    np.testing.assert_array_equal(mix_of(split), load_audio(str(path))[0])


def test_channels_that_are_one_sound_are_transcribed_once(tmp_path):
    """A mono recording in a stereo file, with the hiss of two tracks of a tape."""
    mono = voices(1)
    frames = np.hstack([mono, mono + 0.002 * noise(NUM_FRAMES)])
    samples, end = read(write_wav(tmp_path / "tape.wav", frames, 44_100), channels="split")
    assert end.flags == (CHANNELS_ALIKE,)
    assert [ended.lane for ended in end.lanes] == [(2, 0)]
    assert samples.shape[1] == 3
    _, end = read(write_wav(tmp_path / "call.wav", voices(2), 44_100), channels="split")
    assert end.flags == ()


def test_a_channel_without_sound_is_no_lane(tmp_path):
    frames = voices(2)
    frames[:, 0] = 0
    _, end = read(write_wav(tmp_path / "call.wav", frames, 44_100), channels="split")
    assert [ended.lane.number for ended in end.lanes] == [2]
    _, end = read(write_wav(tmp_path / "none.wav", 0 * frames, 44_100), channels="split")
    assert [ended.lane.number for ended in end.lanes] == [0]


def test_a_mono_recording_needs_no_split(tmp_path):
    path = write_wav(tmp_path / "mono.wav", voices(1), 44_100)
    samples, end = read(path, channels="split")
    assert (samples.ndim, end.lanes, end.flags) == (1, (), ())


def test_a_channel_that_is_not_there_is_refused_by_its_number(tmp_path):
    path = write_wav(tmp_path / "call.wav", voices(2), 44_100)
    with pytest.raises(OutOfRange, match=r"audio.channels names, 3 \(got 2\)"):
        open_recording(str(path), max_seconds=30, channels=3)


@pytest.mark.parametrize("sizes", [(5, 9, 1), (1, 1, 0), (3, 0, 4)])
def test_lanes_that_come_in_pieces_of_different_sizes_lie_side_by_side(sizes):
    waiting, taken = SideBySide(3), []
    for start in range(4):
        for lane, size in enumerate(sizes):
            waiting.push(lane, np.arange(start * size, (start + 1) * size, dtype=np.float32))
        taken.append(waiting.take())
    joined = np.concatenate([*taken, waiting.finish()])
    for lane, size in enumerate(sizes):
        expected = np.zeros(4 * max(sizes))
        expected[: 4 * size] = np.arange(4 * size)
        np.testing.assert_array_equal(joined[:, lane], expected)


@pytest.fixture
def film(tmp_path):
    """Return a file with three sounds of 16 bits, and these; the second is shorter."""
    floats = [voices(1)[:, 0], noise(NUM_FRAMES - 20_000)[:, 0], voices(2)[:, 1]]
    sounds = [np.round(sound * 2**14).astype(np.int16) for sound in floats]
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("pcm_s16le", rate=44_100, layout="mono") for _ in sounds]
        for stream, sound in zip(streams, sounds, strict=True):
            for start in range(0, len(sound), 4410):
                piece = np.ascontiguousarray(sound[None, start : start + 4410])
                frame = av.AudioFrame.from_ndarray(piece, "s16", "mono")
                frame.sample_rate, frame.pts = 44_100, start
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return path, sounds


def test_each_track_is_what_it_is_as_a_recording_of_its_own(film, tmp_path):
    path, sounds = film
    split, end = read(path, tracks="split")
    mixed, _ = read(path, tracks="mix")
    assert [ended.lane.number for ended in end.lanes] == [1, 2, 3]
    assert end.audio.tracks == 3
    padded = []
    for number, sound in enumerate(sounds, start=1):
        own = own_recording(tmp_path, sound, rate_hz=44_100, subtype="PCM_16")
        one, _ = read(path, tracks=number)
        np.testing.assert_array_equal(one, own)
        padded.append(np.pad(own, (0, len(split) - len(own))))
        np.testing.assert_array_equal(split[:, number - 1], padded[-1])
    np.testing.assert_allclose(mixed, np.mean(padded, axis=0), atol=1e-6)
    np.testing.assert_array_equal(mix_of(split), mixed)


def test_a_track_that_is_not_there_is_refused_by_its_number(film, tmp_path):
    path, _ = film
    with pytest.raises(OutOfRange, match=r"audio.tracks names, 4 \(got 3\)"):
        open_recording(str(path), max_seconds=30, track=4)
    wave = write_wav(tmp_path / "one.wav", voices(1), 44_100)
    with pytest.raises(OutOfRange, match=r"audio.tracks names, 2 \(got 1\)"):
        open_recording(str(wave), max_seconds=30, track=2)


def test_a_film_of_one_sound_is_read_whatever_is_asked_of_its_tracks(tmp_path):
    wave = write_wav(tmp_path / "one.wav", voices(1), 44_100)
    plain, _ = read(wave)
    for tracks in ("first", "mix", "split", 1):
        samples, end = read(wave, tracks=tracks)
        np.testing.assert_array_equal(samples, plain)
        assert end.lanes == ()
