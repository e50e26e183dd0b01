"""The archive's recordings: bit for bit the reference's, or refused with a reason."""

import numpy as np
import pytest

from producer.errors import ScribefarmError
from tests.stage.reference_audio import read_like_the_reference
from worker.audio.recording import load_audio


@pytest.mark.archive
@pytest.mark.parametrize("number", ["1688", "1998", "2033", "2414", "2609"])
def test_16_khz_flac_equals_the_reference_reader_bit_for_bit(shared_data, number):
    """No resampling: our samples are openai-whisper's."""
    path = shared_data / "audio" / "english" / f"librispeech-test-other-{number}.flac"
    samples, _ = load_audio(path, max_seconds=100)
    assert np.array_equal(samples, read_like_the_reference(path))


@pytest.mark.slow
@pytest.mark.archive
def test_every_archive_file_is_read_whole_or_refused_with_reason(shared_data):
    """The manifest's durations hold; odd files end as typed errors."""
    refused = {}
    for path in sorted((shared_data / "audio").glob("*/*")):
        if path.parent.name == "long" or path.suffix in (".rttm", ".json"):
            continue  # an hour each; annotations of who speaks
        try:
            load_audio(path, max_seconds=3600)
        except ScribefarmError as error:
            refused[path.name] = error.code
    assert refused == {
        "p001.flac": "corrupt_audio",
        # So few samples at another rate than 16 kHz that ffmpeg's filter gives none.
        "mono_float64.wav": "empty_input",
        "mono_int24.wav": "empty_input",
        "mono_int32.wav": "empty_input",
        "test-1234Hz-le-1ch-10S-20bit-extra.wav": "empty_input",
        "test-8000Hz-be-3ch-5S-24bit.wav": "empty_input",
        "test-8000Hz-le-1ch-1byte-ulaw.wav": "empty_input",
        "test-8000Hz-le-3ch-5S-24bit-inconsistent.wav": "empty_input",
        "test-8000Hz-le-3ch-5S-24bit-rf64.wav": "empty_input",
        "test-8000Hz-le-3ch-5S-24bit.wav": "empty_input",
        "test-8000Hz-le-3ch-5S-64bit.wav": "empty_input",
        "test-8000Hz-le-4ch-9S-12bit.wav": "empty_input",
        "test-8000Hz-le-5ch-9S-5bit.wav": "empty_input",
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
