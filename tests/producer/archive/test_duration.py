"""Durations from headers: read for estimates, never trusted."""

import json
import wave

import pytest

from producer.archive.duration import header_duration_s
from tests.producer.archive.recordings import record


def test_durations_come_from_headers_alone(folder):
    """A header that claims two seconds counts two, whatever follows; no header, no duration."""
    path = folder / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\0\0" * 16_000)
    assert header_duration_s(path) == pytest.approx(2.0)
    assert header_duration_s(record(folder / "b.wav", b"no audio")) is None
    assert header_duration_s(record(folder / "c.aac", b"\xff\xf1")) is None
    assert header_duration_s(folder / "missing.wav") is None


@pytest.mark.archive
def test_header_durations_of_real_recordings_are_right(shared_data):
    """Within a tenth of a second for every speech file of the shared manifest that has a header."""
    lines = (shared_data / "manifest.jsonl").read_text().splitlines()
    told = {}
    for each in map(json.loads, lines):
        if each["kind"] == "speech":
            # One path has two lines, of two languages: the file is the later one's.
            told[each["path"]] = each["duration_s"]
    assert len(told) > 10
    for path, expected_s in told.items():
        duration_s = header_duration_s(shared_data / path)
        if duration_s is not None:
            assert duration_s == pytest.approx(expected_s, abs=0.1), path
