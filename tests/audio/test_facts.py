"""Facts of a recording: levels by FFmpeg's definition, and the tags that an archive is searched by."""

import struct

import av
import numpy as np
import pytest

from producer.job import AudioOptions
from producer.settings import AudioSettings
from tests.stage.made_audio import noise, write_wav
from worker.audio.facts import KEPT_TAGS, MAX_TAG_CHARS, Levels, kept_tags
from worker.audio.read_ahead import End, Reading

RATE_HZ = 16_000


def facts(path, **asked):
    """Return the audio part of a result."""
    delivered = []
    options = AudioOptions(**asked)
    reading = Reading(str(path), AudioSettings(), delivered.append, asked=options)
    for _ in range(100):
        reading.take()
    reading.run()
    end = delivered[-1]
    assert isinstance(end, End), end
    return end.audio


def sine(seconds=1.0, amplitude=1.0):
    time = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return amplitude * np.sin(2 * np.pi * 440 * time)


def volumedetect(path):
    """Return FFmpeg's own mean_volume of a file."""
    found = []
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        source = graph.add_abuffer(template=container.streams.audio[0])
        detect, sink = graph.add("astats", "metadata=1:reset=0"), graph.add("abuffersink")
        source.link_to(detect)
        detect.link_to(sink)
        graph.configure()
        for frame in container.decode(audio=0):
            graph.push(frame)
            while True:
                try:
                    found.append(graph.pull().metadata["lavfi.astats.Overall.RMS_level"])
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return float(found[-1])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_loudness_does_not_depend_on_the_sample_type(tmp_path, subtype):
    """A sine at full scale has -3 dB, at a tenth of it -23 dB."""
    for amplitude, expected in ((0.999, -3.0), (0.1, -23.0)):
        path = write_wav(tmp_path / "a.wav", sine(amplitude=amplitude)[:, None], subtype=subtype)
        assert facts(path).loudness_dbfs == pytest.approx(expected, abs=0.1)


def test_loudness_is_what_ffmpeg_measures(tmp_path):
    """Over all samples of all channels."""
    samples = noise(30_000, channels=2) * 0.1 * np.array([1.0, 0.25])
    path = write_wav(tmp_path / "a.wav", samples, subtype="PCM_16")
    assert facts(path).loudness_dbfs == pytest.approx(volumedetect(path), abs=0.06)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_samples_at_full_scale_count_as_clipped(tmp_path, subtype):
    """In either direction; an eighth of these."""
    samples = 0.5 * sine()
    samples[::16], samples[1::16] = 1.0, -1.0
    path = write_wav(tmp_path / "a.wav", samples[:, None], subtype=subtype)
    assert facts(path).clipping_share == pytest.approx(1 / 8)
    path = write_wav(tmp_path / "b.wav", sine(amplitude=0.98)[:, None], subtype=subtype)
    assert facts(path).clipping_share == 0.0


@pytest.mark.parametrize("resampler", ["ffmpeg", "soxr_hq"])
def test_silence_has_no_loudness_and_nobody_speaks_in_it(tmp_path, resampler):
    """None stands for what JSON has no number for."""
    path = write_wav(tmp_path / "a.wav", np.zeros((RATE_HZ, 2)), subtype="PCM_16")
    audio = facts(path, resampler=resampler)
    assert (audio.loudness_dbfs, audio.snr_db, audio.silence_share) == (None, None, 1.0)
    assert (audio.clipping_share, audio.tracks, audio.tags, audio.skipped) == (0.0, 1, {}, [])
    assert facts(path, resampler=resampler, vad="skip-silence").skipped == [(0.0, 1.0)]


def test_levels_of_nothing_are_no_error():
    """A recording that ends before its first frame."""
    levels = Levels()
    levels.add(np.zeros((0, 2), np.int16))
    assert (levels.loudness_dbfs, levels.clipping_share) == (None, 0.0)


def test_nobody_listens_where_the_settings_say_so(tmp_path):
    """Then results tell no share of silence, unless silence is skipped."""
    path = write_wav(tmp_path / "a.wav", noise(RATE_HZ) * 0.01, subtype="PCM_16")
    for vad, share in (("off", None), ("skip-silence", 1.0)):
        delivered = []
        reading = Reading(
            str(path),
            AudioSettings(listen=False),
            delivered.append,
            asked=AudioOptions(vad=vad),
        )
        reading.take()
        reading.run()
        assert delivered[-1].audio.silence_share == share
        assert (delivered[-1].speech is None) == (share is None)


def broadcast_wave(path, originator=b"FIELD RECORDER 7"):
    """Write a WAV file with a `bext` chunk (EBU Tech 3285) before its samples."""
    chunk = struct.pack(
        "<256s32s32s10s8sQH254x",
        b"Interview with the miller",
        originator,
        b"DE0123456789REF",
        b"1987-06-05",
        b"14:03:02",
        14 * 3600 * 48_000,
        1,
    )
    samples = (noise(4800) * 1000).astype("<i2").tobytes()
    body = b"WAVE" + b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 48_000, 96_000, 2, 16)
    body += b"bext" + struct.pack("<I", len(chunk)) + chunk
    body += b"data" + struct.pack("<I", len(samples)) + samples
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def test_a_broadcast_waves_originator_and_time_are_kept(tmp_path):
    """What a sound archive looks its recordings up by."""
    tags = facts(broadcast_wave(tmp_path / "a.wav")).tags
    assert tags["originator"] == "FIELD RECORDER 7"
    assert tags["originator_reference"] == "DE0123456789REF"
    assert tags["time_reference"] == str(14 * 3600 * 48_000)
    assert tags["date"] == "1987-06-05"


def test_tags_of_a_compressed_file_and_its_tracks_are_kept(tmp_path):
    """Title and date, wherever the container has them; and how many sounds lie side by side."""
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as container:
        container.metadata["title"] = "Der Müller"
        container.metadata["date"] = "1987"
        streams = [container.add_stream("pcm_s16le", rate=RATE_HZ) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
        for stream in streams:
            samples = (noise(1600)[:, 0] * 1000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = RATE_HZ
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    audio = facts(path)
    assert (audio.tags["title"], audio.tags["date"], audio.tracks) == ("Der Müller", "1987", 2)


def test_hostile_tags_are_one_short_line(tmp_path):
    """No control reaches a terminal, and no tag is longer than the bound."""
    tags = facts(broadcast_wave(tmp_path / "a.wav", b"\x1b[2J\nred\x07")).tags
    assert tags["originator"].isprintable()
    kept = kept_tags({"TITLE": "x" * 100_000, "comment": "no", "artist": "\n\t "}, {"title": "y"})
    assert kept == {"title": "x" * MAX_TAG_CHARS}
    many = kept_tags(dict.fromkeys(KEPT_TAGS, "\u202e" * 1000))
    assert all(len(value) <= MAX_TAG_CHARS and value.isprintable() for value in many.values())
