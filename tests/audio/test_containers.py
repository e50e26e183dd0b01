"""What is read whole, by either library, and what is refused: formats, headers, file names."""

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from producer.errors import (
    CorruptAudio,
    EmptyInput,
    OutOfRange,
    SourceNotFound,
    UnsupportedFormat,
)
from tests.stage.made_audio import noise, saved, wav_header
from worker.audio.recording import load_audio, probe


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
