"""A real model over speech and long silences: skipped, or transcribed as ever."""

from itertools import count

import numpy as np
import pytest
import soundfile

from producer.job import AudioOptions, Job, Options
from worker.audio.recording import load_audio
from worker.cli.measure import clip
from worker.engine.messages import Done, Failed, Ticket

pytestmark = pytest.mark.weights

RATE_HZ = 16_000
SILENCE_S = 45.0
# An engine tells recordings apart by it, also where a test before has ended before its recording did.
NUMBERS = count()


def transcribe(engine, path, vad, **options):
    """Return the transcript of a file."""
    job = Job(
        source=str(path),
        options=Options(**{"temperatures": (0.0,), "beam_size": None} | options),
        audio=AudioOptions(vad=vad),
    )
    key = str(next(NUMBERS))
    engine.submit(Ticket(key, key, job))
    while True:
        for event in engine.poll(1.0):
            if event.execution_id != key:
                continue
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Done):
                return event.transcript


def words_of(text):
    return "".join(char for char in text.lower() if char.isalpha() or char == " ").split()


@pytest.fixture(scope="module")
def speech():
    """Return the demo's ten seconds of speech."""
    return load_audio(clip(), max_seconds=60)[0]


def written(path, *pieces):
    soundfile.write(path, np.concatenate(pieces), RATE_HZ, subtype="PCM_16")
    return path


def hiss(seconds, power=1e-3):
    return np.random.default_rng(0).normal(0, power, int(seconds * RATE_HZ)).astype(np.float32)


def test_a_long_silence_is_skipped_and_no_time_moves(real_engine, speech, tmp_path):
    """The text behind it is that of the speech alone, at the time at which it is said."""
    engine = real_engine()
    twice = written(tmp_path / "twice.wav", speech, hiss(SILENCE_S), speech)
    alone = transcribe(engine, written(tmp_path / "alone.wav", speech), "off")
    found = transcribe(engine, twice, "skip-silence", word_timestamps=True)
    ((start, end),) = found.audio.skipped
    behind_s = len(speech) / RATE_HZ + SILENCE_S
    assert end - start > SILENCE_S - 1
    assert words_of(found.text) == 2 * words_of(alone.text)
    second = [word for each in found.segments for word in each.words if word.start > end]
    assert len(second) == len(words_of(alone.text))
    assert behind_s - 0.5 < second[0].start < behind_s + 1.5
    assert not [each for each in found.segments if start < each.start < end - 0.5]
    assert found.timing.windows == 2
    assert found.audio.silence_share > SILENCE_S / found.audio.duration_s


@pytest.mark.parity
def test_noise_gives_no_text_with_skipping_and_none_unflagged_without(
    real_engine, speech, tmp_path
):
    """Whatever the model makes of it."""
    engine = real_engine()
    for number, power in enumerate((1e-4, 1e-2, 0.1)):
        path = written(tmp_path / f"{number}.wav", hiss(12, power))
        skipped = transcribe(engine, path, "skip-silence")
        assert (skipped.text, skipped.segments, skipped.timing.windows) == ("", [], 0)
        assert skipped.audio.skipped == [(0.0, 12.0)]
        said = [each for each in transcribe(engine, path, "off").segments if each.text.strip()]
        assert all("likely_silence" in each.flags for each in said)


@pytest.mark.archive
@pytest.mark.parity
@pytest.mark.timeout(600)  # every temperature, five samples each
@pytest.mark.parametrize("model", ["tiny.en", "base"])
def test_recordings_without_speech_give_none(real_engine, model, shared_data):
    """Music, animals and noise of the archive: no text with skipping, none unflagged without."""
    engine, defaults = real_engine(model), Options()
    usual = defaults.model_dump(include={"temperatures", "beam_size"})
    names = [
        "librosa-Kevin_MacLeod_-_Vibe_Ace.ogg",
        "hens.ogg",
        "librosa-glacier-bay-humpback.ogg",
        "speechbrain-noise4.wav",
        "linto-laugh2.mp3",
    ]
    for name in names:
        (path,) = (shared_data / "audio" / "nonspeech").rglob(name)
        assert transcribe(engine, path, "skip-silence", **usual).text == ""
        found = transcribe(engine, path, "off", **usual)
        said = [each for each in found.segments if each.text.strip()]
        assert all("likely_silence" in each.flags for each in said), name


@pytest.mark.archive
@pytest.mark.parity
@pytest.mark.parametrize("model", ["tiny.en", "base"])
def test_speech_without_long_silences_is_the_same_with_skipping(real_engine, model, shared_data):
    """Tokens, times and figures."""
    engine = real_engine(model)
    for name in ("jfk.flac", "librispeech-test-other-1688.flac"):
        path = shared_data / "audio" / "english" / name
        off, on = (transcribe(engine, path, vad) for vad in ("off", "skip-silence"))
        assert on.audio.skipped == []
        assert on.segments == off.segments
