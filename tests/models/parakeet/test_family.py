"""A small random Parakeet through the real engine: real speech in, no text that means anything.

Random weights say something about everything, and the same thing every time.
"""

import time
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from producer.errors import InvalidOptions
from producer.formats import FORMATS, FormatOptions
from producer.job import AudioOptions, Job, Options
from producer.result import dump_result, parse_result
from producer.settings import Settings
from tests.stage.tiny_models import tiny_random_whisper
from tests.stage.tiny_models import write_mlx as write_whisper
from tests.stage.tiny_parakeets import WRITERS, random_parakeet, tiny_config
from worker.audio.recording import load_audio
from worker.cli.measure import clip
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Progress, Ticket
from worker.models.load import load_family
from worker.models.parakeet.family import ParakeetFamily
from worker.models.routing import family_module

RATE_HZ = 16_000
KINDS = {"tdt": {}, "ctc": {"ctc": True}, "vad": {"vad": True}}


def settings_of(path, **sections):
    sections = {"worker": {"slots": 3, "backend": "auto"}} | sections
    return Settings(model={"name": str(path), "dtype": "float32"}, **sections)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return where each kind of model lies, as transformers writes it."""
    home = tmp_path_factory.mktemp("models")
    return {
        kind: WRITERS["transformers"](random_parakeet(tiny_config(**config)), home / kind)
        for kind, config in KINDS.items()
    }


@pytest.fixture(
    scope="module",
    params=["tdt", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ctc", "vad"))],
)
def engine(request, folders):
    """Return the real engine over each kind of model in turn."""
    running = BatchEngine(settings_of(folders[request.param]), load_family)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def tdt(folders):
    """Return the engine over a transducer."""
    running = BatchEngine(settings_of(folders["tdt"]), load_family)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def speech():
    """Return the packaged ten seconds of real speech, over and over, from any second on."""
    samples, _ = load_audio(str(clip()))
    return lambda start, seconds: np.resize(
        np.roll(samples, -round(start * RATE_HZ)), round(seconds * RATE_HZ)
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, speech):
    """Return recordings of 0.1 to 33 s, by their length."""
    folder = tmp_path_factory.mktemp("audio")
    paths = {}
    for number, seconds in enumerate((0.1, 30.0, 1.0, 0.5, 11.3, 3.7, 33.0)):
        paths[seconds] = folder / f"{seconds}.wav"
        soundfile.write(paths[seconds], speech(number, seconds), RATE_HZ)
    return paths


def ticket(path, name=None, checkpoint=None, audio=None, **options):
    job = Job(source=str(path), options=Options(**options), audio=audio)
    name = name or path.name
    return Ticket(name, name, job, checkpoint)


def collect(engine, count, timeout_s=100.0):
    """Return the events until so many recordings have ended."""
    events, deadline = [], time.monotonic() + timeout_s
    while sum(isinstance(event, Done | Failed) for event in events) < count:
        assert time.monotonic() < deadline, events
        events += engine.poll(0.1)
    return events


def ended(events):
    return {each.execution_id: each for each in events if isinstance(each, Done | Failed)}


def alone(engine, path, **options):
    """Return a recording's transcript, with nothing beside it."""
    engine.submit(ticket(path, **options))
    (done,) = ended(collect(engine, 1)).values()
    assert isinstance(done, Done), done
    return done.transcript


@pytest.mark.slow
def test_together_late_and_beside_what_is_cancelled_each_is_as_if_alone(engine, recordings):
    """More pieces than slots, all lengths; some come late, some leave. To the last bit."""
    single = {name: alone(engine, path) for name, path in recordings.items()}
    first, *others = recordings.items()
    engine.submit(ticket(recordings[33.0], "leaves"))
    for name, path in others:
        engine.submit(ticket(path, f"{name}"))
        engine.submit(ticket(path, f"again-{name}"))
    events = engine.poll(0.05)
    engine.cancel("leaves", InvalidOptions("job", "was cancelled", 1))
    engine.submit(ticket(first[1], f"{first[0]}"))
    done = ended(events + collect(engine, 2 * len(others) + 2 - len(ended(events))))
    del done["leaves"]
    assert len(done) == 2 * len(others) + 1
    for name, each in done.items():
        own = single[float(name.removeprefix("again-"))]
        assert each.transcript.segments == own.segments
        assert each.transcript.audio.skipped == own.audio.skipped
    assert sum(bool(own.segments) for own in single.values()) >= len(single) - 2


def test_it_goes_on_from_each_checkpoint_to_the_same_text(engine, recordings):
    """Another worker's, behind every piece."""
    path = recordings[33.0]
    engine.submit(ticket(path, word_timestamps=True))
    events = collect(engine, 1)
    whole = events[-1].transcript
    progress = [event for event in events if isinstance(event, Progress)]
    assert len(progress) >= 2
    for number, each in enumerate(progress):
        engine.submit(ticket(path, "resumed", each.checkpoint, word_timestamps=True))
        rest = collect(engine, 1)
        assert rest[-1].transcript.segments == whole.segments
        assert rest[-1].transcript.audio.skipped == whole.audio.skipped
        passed = [event for event in rest if isinstance(event, Progress)]
        assert len(passed) == len(progress) - number - 1


@pytest.mark.slow
def test_channels_that_are_transcribed_apart_are_as_if_alone(tdt, speech, tmp_path):
    """Lanes know no family."""
    left, right = speech(0, 35.0), 0.5 * speech(5, 35.0)
    for name, samples in {"left": left, "right": right}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE_HZ, subtype="FLOAT")
    both = np.stack([left, right], axis=1)
    soundfile.write(tmp_path / "both.wav", both, RATE_HZ, subtype="FLOAT")
    split = alone(tdt, tmp_path / "both.wav", audio=AudioOptions(channels="split"))
    for number, name in enumerate(("left", "right"), start=1):
        own = alone(tdt, tmp_path / f"{name}.wav").segments
        mine = [each for each in split.segments if each.channel == number]
        assert [each.text for each in mine] == [each.text for each in own]
        assert [each.start for each in mine] == [each.start for each in own]


@pytest.mark.slow
def test_nothing_is_transcribed_in_skipped_silence(tdt, speech, tmp_path):
    """`audio.vad`, which decides before the family does; both are said once."""
    spoken, silence = speech(0, 10.0), np.zeros(40 * RATE_HZ)
    path = tmp_path / "gap.wav"
    soundfile.write(path, np.concatenate([spoken, silence, spoken, silence]), RATE_HZ)
    plain = alone(tdt, path)
    skipping = alone(tdt, path, audio=AudioOptions(vad="skip-silence"))
    assert plain.audio.skipped
    assert skipping.audio.skipped
    for transcript in (plain, skipping):
        spans = transcript.audio.skipped
        assert all(before[1] < after[0] for before, after in pairwise(spans))
        for segment in transcript.segments:
            assert not any(start < segment.start < end for start, end in spans)
    assert skipping.timing.windows <= plain.timing.windows


@pytest.mark.parametrize("options", [{}, {"word_timestamps": True}])
def test_every_format_takes_its_transcripts(tdt, recordings, options):
    """With words and without."""
    transcript = alone(tdt, recordings[11.3], **options)
    assert parse_result(dump_result(transcript)) == transcript
    first = transcript.text.split()[0]
    for name, write in FORMATS.items():
        assert first in write(transcript, FormatOptions()), name


def test_a_result_says_what_the_family_knows_and_no_more(tdt, recordings):
    """Whisper's own figures are null; words come where they are asked for."""
    transcript = alone(tdt, recordings[11.3], word_timestamps=True)
    for segment in transcript.segments:
        assert (segment.temperature, segment.no_speech_prob) == (None, None)
        assert 0 < segment.confidence <= 1
        assert segment.words
        assert "".join(word.word for word in segment.words) == segment.text
        assert 0 <= segment.start <= segment.end <= transcript.audio.duration_s
        assert "<unk>" not in segment.text
    assert transcript.timing.prompt_tokens == 0
    assert transcript.language == "en"


def test_an_option_that_it_lacks_ends_that_job_before_its_file_is_read(tdt, recordings):
    """The next job is done."""
    tdt.submit(ticket(recordings[1.0], "wrong", initial_prompt="Names"))
    tdt.submit(ticket(recordings[1.0], "right"))
    found = ended(collect(tdt, 2))
    assert found["wrong"].error.context == "options: initial_prompt"
    assert isinstance(found["right"], Done)


@pytest.mark.parametrize("layout", WRITERS)
def test_the_configuration_says_whose_a_model_is(layout, tmp_path):
    """A folder of either layout, or an archive, and a folder that holds one, as a hub's may."""
    path = WRITERS[layout](random_parakeet(tiny_config()), tmp_path / "model")
    paths = [path, path.parent] if layout == "nemo" else [path]
    for each in paths:
        assert family_module(str(each)) == "worker.models.parakeet.family"
        family = load_family(settings_of(each))
        assert isinstance(family, ParakeetFamily)
        assert family.model.name == str(each)


def test_what_is_no_parakeet_is_whispers(tmp_path):
    """Which says what is wrong with a folder that nobody knows."""
    whisper = write_whisper(tiny_random_whisper(width=16), tmp_path / "whisper")
    (tmp_path / "empty").mkdir()
    for name in (str(whisper), str(tmp_path / "empty"), "tiny.en", "/nowhere"):
        assert family_module(name) == "worker.models.whisper.family"


@pytest.mark.slow
def test_a_checkpoint_of_another_model_starts_over(tdt, folders, recordings):
    """Another revision is another model."""
    path = recordings[33.0]
    other = BatchEngine(settings_of(folders["ctc"]), load_family)
    try:
        other.submit(ticket(path))
        progress = next(event for event in collect(other, 1) if isinstance(event, Progress))
    finally:
        other.stop()
    whole = alone(tdt, path)
    tdt.submit(ticket(path, "resumed", progress.checkpoint))
    rest = collect(tdt, 1)
    assert rest[-1].transcript.segments == whole.segments
    assert sum(isinstance(event, Progress) for event in rest) == whole.timing.windows
