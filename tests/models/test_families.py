"""Two toy families through the real engine, the real farm worker and the command line.

One has pieces of any length, no stepper and no token ids; the other has a stepper of its own. What
they show is that the engine, the device room and the farm know no model.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from producer.errors import InvalidOptions
from producer.job import Job, Options
from producer.settings import Settings
from tests.stage.toy_worker import TOYS
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Opened, Progress, Ticket
from worker.models import MODELS
from worker.models.load import load_family

# Loudness and seconds of each stretch.
STORY = [(0.0, 0.5), (0.55, 1.0), (0.0, 0.4), (0.15, 0.7), (0.0, 0.3), (0.65, 2.2)]
TEXTS = {"toy-pieces": " loud soft loud", "toy-frames": "afabag"}


@pytest.fixture
def story(tmp_path):
    """Return a function that writes a recording of stretches of unequal loudness."""

    def write(name, stretches=STORY):
        samples = [np.full(round(16_000 * s), level, np.float32) for level, s in stretches]
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.concatenate(samples), 16_000, subtype="PCM_16")
        return path

    return write


@pytest.fixture(params=TEXTS)
def model(request, monkeypatch):
    """Return the name of each toy in turn, with its line in `MODELS`."""
    monkeypatch.setitem(MODELS, request.param, TOYS[request.param])
    return request.param


@pytest.fixture
def engine(model):
    """Return the real engine over a toy."""
    running = BatchEngine(Settings(model={"name": model}, worker={"slots": 3}), load_family)
    yield running
    running.stop()


def collect(engine, count, timeout_s=30.0):
    events, deadline = [], time.monotonic() + timeout_s
    while sum(isinstance(event, Done | Failed) for event in events) < count:
        assert time.monotonic() < deadline, events
        events += engine.poll(0.1)
    return [event for event in events if not isinstance(event, Opened)]


def ticket(path, name=None, checkpoint=None, **options):
    job = Job(source=str(path), options=Options(**options))
    return Ticket(name or path.stem, name or path.stem, job, checkpoint)


def test_many_recordings_are_driven_together_and_each_is_as_if_alone(engine, model, story):
    """More recordings than slots, all lengths: the text is the recording's own."""
    for number in range(7):
        engine.submit(ticket(story(f"{number}", STORY[: number % 3 * 2] or STORY)))
    ended = [event for event in collect(engine, 7) if isinstance(event, Done)]
    texts = {event.execution_id: event.transcript.text for event in ended}
    whole = TEXTS[model]
    assert [texts[name] for name in "036"] == [whole] * 3
    assert all(whole.startswith(text) and text for text in texts.values())
    transcript = ended[0].transcript
    assert (transcript.model.name, transcript.language) == (model, "en")
    assert transcript.timing.windows > 0
    assert all(segment.tokens == [] for segment in transcript.segments)


def test_one_that_is_cancelled_or_broken_leaves_the_others_alone(engine, model, story, tmp_path):
    """The engine's own errors are the same for every family."""
    (tmp_path / "junk.wav").write_bytes(b"no audio" * 50)
    engine.submit(ticket(tmp_path / "junk.wav"))
    engine.submit(ticket(tmp_path / "absent.wav"))
    engine.submit(ticket(story("good")))
    ended = {e.execution_id: e for e in collect(engine, 3) if isinstance(e, Done | Failed)}
    assert ended["junk"].error.code == "unsupported_format"
    assert ended["absent"].error.code == "source_not_found"
    assert ended["good"].transcript.text == TEXTS[model]


@pytest.mark.parametrize("model", ["toy-pieces"], indirect=True)
def test_pieces_have_their_own_times_options_and_checkpoints(engine, story):
    """Cut at pauses; what the family cannot do is refused; another worker goes on in the middle."""
    path = story("whole")
    engine.submit(ticket(path))
    *progress, whole = collect(engine, 1)
    spans = [(segment.start, segment.end) for segment in whole.transcript.segments]
    assert spans == [(0.5, 1.5), (1.9, 2.6), (2.9, 5.1)]
    engine.submit(ticket(path, "resumed", progress[0].checkpoint))
    *rest, resumed = collect(engine, 1)
    assert len(rest) == len(progress) - 1 == sum(isinstance(e, Progress) for e in rest)
    assert resumed.transcript.segments == whole.transcript.segments
    engine.submit(ticket(path, "words", word_timestamps=True))
    (refused,) = collect(engine, 1)
    assert isinstance(refused.error, InvalidOptions)


def test_a_toy_works_a_queue_to_a_stored_result(model, settings, scribefarm, story):
    """`submit`, the worker program and `result`: none of them knows the family."""
    path = story("archive")
    env = {**os.environ, **settings.to_environment(), "SCRIBEFARM_MODEL__NAME": model}
    submitted = scribefarm("submit", path, SCRIBEFARM_MODEL__NAME=model)
    assert submitted.returncode == 0, submitted.stderr
    worker = subprocess.run(
        [sys.executable, "-m", "tests.stage.toy_worker", "run", "--burst"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    stored = scribefarm("result", submitted.stdout.strip(), "--json")
    assert stored.returncode == 0, stored.stderr
    transcript = json.loads(stored.stdout)
    assert (transcript["text"], transcript["model"]["name"]) == (TEXTS[model], model)
