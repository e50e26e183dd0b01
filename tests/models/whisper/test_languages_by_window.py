"""A recording of two languages, by the real model: German for half a minute, then Spanish."""

import numpy as np
import pytest
import soundfile

from producer.job import Job, Options
from tests.models.whisper.test_golden import DEADLINE_S
from worker.engine.messages import Done, Failed, Ticket

pytestmark = [
    pytest.mark.parity,
    pytest.mark.archive,
    pytest.mark.weights,
    pytest.mark.timeout(DEADLINE_S),
]

RATE_HZ = 16_000
GREEDY = {"temperatures": (0.0,), "beam_size": None}
GERMAN, SPANISH = ("fleurs-de-000", "fleurs-de-003"), "fleurs-es-001"
# Where the Spanish begins: the German speech fills the first window.
WINDOW_S = 30


@pytest.fixture(scope="module")
def two_languages(shared_data, tmp_path_factory):
    """Return a file of 51 s: German, silence up to 30 s, Spanish."""

    def read(name):
        samples, rate = soundfile.read(shared_data / f"audio/fleurs/{name}.ogg", dtype="float32")
        assert rate == RATE_HZ
        return samples

    german = np.concatenate([read(name) for name in GERMAN])
    silence = np.zeros(WINDOW_S * RATE_HZ - len(german), np.float32)
    path = tmp_path_factory.mktemp("languages") / "two.flac"
    soundfile.write(path, np.concatenate([german, silence, read(SPANISH)]), RATE_HZ)
    return path


def transcribe(engine, jobs):
    """Return the transcripts of jobs that are all in flight at once."""
    for key, job in jobs.items():
        engine.submit(Ticket(key, key, job))
    transcripts = {}
    while len(transcripts) < len(jobs):
        for event in engine.poll(1.0):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Done):
                transcripts[event.execution_id] = event.transcript
    return transcripts


def heard(transcript):
    """Return what does not depend on how many windows were computed together: floats' last digits do."""
    return [(s.language, s.seek, s.start, s.end, s.tokens) for s in transcript.segments]


def test_each_language_of_a_recording_is_written_as_it_is_spoken(real_engine, two_languages):
    """By window; in one language alone the other becomes nonsense. Beside others nothing changes."""
    asked = {
        "one": {},
        "each": {"multilingual": True},
        "allowed": {"multilingual": True, "allowed_languages": ("german", "es")},
    }
    jobs = {
        key: Job(source=str(two_languages), options=Options(**GREEDY | each))
        for key, each in asked.items()
    }
    transcripts = transcribe(real_engine("base"), jobs)
    each = transcripts["each"]
    for segment in each.segments:
        # A window that begins in the last German words is mostly Spanish.
        expected = "de" if segment.seek < 100 * (WINDOW_S - 5) else "es"
        assert segment.language == expected
        assert segment.language_probability > 0.5
    assert {segment.language for segment in each.segments} == {"de", "es"}
    assert each.language == "de"
    assert "los contenidos de Internet" in each.text
    one = transcripts["one"]
    assert one.language == "de"
    assert "los contenidos de Internet" not in one.text
    assert {segment.language for segment in one.segments} == {None}
    assert heard(transcripts["allowed"]) == heard(each)
    alone = transcribe(real_engine("base"), {"alone": jobs["each"]})["alone"]
    assert heard(alone) == heard(each)
