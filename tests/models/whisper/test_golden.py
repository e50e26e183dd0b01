"""Greedy transcripts of real speech, token for token openai-whisper's: ../shared/data/golden.jsonl.

All files of a model are in flight at once, read by our own reader, whatever their rate and
container. `make parity` compares every file but the hour.
"""

import json
import time

import pytest

from producer.job import Job, Options
from worker.engine.messages import Done, Failed, Ticket

DEADLINE_S = 7200
# Whisper text of noise is a coin's toss between float roundings; `audio/long` has its own test.
SPEECH = ("audio/english/", "audio/fleurs/")
DEFAULT_RUN = [
    ("tiny.en", "audio/english/jfk.flac"),
    ("tiny.en", "audio/english/librispeech-test-other-1688.flac"),
    ("tiny.en", "audio/english/librispeech-test-other-2414.flac"),
    ("tiny.en", "audio/fleurs/fleurs-en-000.ogg"),
    ("tiny.en", "audio/fleurs/fleurs-en-003.ogg"),
    ("base", "audio/english/jfk.flac"),
    ("base", "audio/fleurs/fleurs-de-000.ogg"),
]

pytestmark = [pytest.mark.archive, pytest.mark.weights, pytest.mark.timeout(DEADLINE_S)]


@pytest.fixture(scope="session")
def golden(shared_data):
    """Return the reference's transcripts by model and path."""
    with (shared_data / "golden.jsonl").open() as lines:
        return {(entry["model"], entry["path"]): entry for entry in map(json.loads, lines)}


def transcribe(engine, files, audio=None):
    """Return the greedy transcript of each file, all of them in flight at once."""
    for key, path in files.items():
        job = Job(
            source=str(path), options=Options(temperatures=(0.0,), beam_size=None), audio=audio
        )
        engine.submit(Ticket(key, key, job))
    transcripts, deadline = {}, time.monotonic() + DEADLINE_S
    while len(transcripts) < len(files):
        assert time.monotonic() < deadline
        for event in engine.poll(1.0):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Done):
                transcripts[event.execution_id] = event.transcript
    return transcripts


def differences(expected, actual):
    """Name everything in which two transcripts differ."""
    ours = [(s.seek, s.start, s.end, s.text, s.tokens) for s in actual.segments]
    theirs = [(s["seek"], s["start"], s["end"], s["text"], s["tokens"]) for s in expected]
    for left, right in zip(theirs, ours, strict=False):
        if left != right:
            yield f"expected {left}, got {right}"
    if len(ours) != len(theirs):
        yield f"expected {len(theirs)} segments, got {len(ours)}"
    for left, right in zip(expected, actual.segments, strict=False):
        for name in ("avg_logprob", "no_speech_prob"):
            if abs(left[name] - getattr(right, name)) > 1e-3:
                yield f"{name} at {right.start}: {left[name]}, got {getattr(right, name)}"


def differing(golden, model, transcripts):
    """Return the differences of every file that differs."""
    found = {}
    for path, transcript in transcripts.items():
        entry = golden[model, path]
        said = list(differences(entry["segments"], transcript))
        if entry["language"] != transcript.language:
            said.insert(0, f"language {transcript.language}")
        if entry["text"] != transcript.text:
            said.append("the text")
        if said:
            found[path] = said
    return found


@pytest.mark.parametrize("model", ["tiny.en", pytest.param("base", marks=pytest.mark.slow)])
def test_speech_is_transcribed_token_for_token_as_the_reference_does(
    model, golden, real_engine, shared_data
):
    """Segments, times, tokens and text are equal; log-probabilities within 1e-3."""
    files = {path: shared_data / path for name, path in DEFAULT_RUN if name == model}
    assert differing(golden, model, transcribe(real_engine(model), files)) == {}


@pytest.mark.parity
@pytest.mark.parametrize("model", ["tiny.en", "base"])
def test_every_golden_file_is_the_references(model, golden, real_engine, shared_data):
    """All English and FLEURS files, the language detected where the model knows more than one."""
    paths = [path for name, path in golden if name == model and path.startswith(SPEECH)]
    files = {path: shared_data / path for path in paths}
    found = differing(golden, model, transcribe(real_engine(model), files))
    print(f"\n{model}: {len(files) - len(found)} of {len(files)} files equal the reference's")
    assert found == {}
