"""Real speech, every option and word times against openai-whisper's own transcripts.

All recordings of a model are in flight at once, each with options of its own, so this also shows
that a batch's neighbours change nothing. The files are 16 kHz FLAC: any reader gives the same
samples as the reference's. tests/data/make_golden_options.py made the transcripts.
"""

import json
import os
import time
from pathlib import Path

import pytest

from producer.job import Job, Options
from producer.settings import load_settings
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Ticket
from worker.models.load import load_family

DATA = Path(__file__).parents[2] / "data"
DEADLINE_S = 1500

pytestmark = [pytest.mark.archive, pytest.mark.weights, pytest.mark.timeout(DEADLINE_S)]


def entries(model, recording):
    """Return the stored transcripts of `model` whose samples do not depend on the reader.

    `recording` is a part of their names: one chapter, or all of them.
    """
    stored = [
        entry
        for name in ("golden_options.json", "word_timestamps.json")
        for entry in json.loads((DATA / name).read_text("utf-8"))
    ]
    return {
        f"{number}": entry
        for number, entry in enumerate(stored)
        if entry["model"] == model and recording in entry.get("path", "")
    }


def options_of(entry):
    """Return our options of the reference's: it takes clips and suppressed tokens as text, too."""
    options = dict(entry["options"])
    if isinstance(options.get("clip_timestamps"), str):
        options["clip_timestamps"] = options["clip_timestamps"].split(",")
    if options.get("suppress_tokens") == "":
        options["suppress_tokens"] = ()
    return Options(temperatures=(0.0,), beam_size=None, **options)


def transcribe(model, wanted, folder):
    """Return the transcript of each entry, by its key."""
    engine = BatchEngine(load_settings(model={"name": model, "dtype": "float32"}), load_family)
    transcripts, deadline = {}, time.monotonic() + DEADLINE_S
    try:
        for key, entry in wanted.items():
            job = Job(source=os.fspath(folder / entry["path"]), options=options_of(entry))
            engine.submit(Ticket(key, key, job))
        while len(transcripts) < len(wanted) and time.monotonic() < deadline:
            for event in engine.poll(1.0):
                assert not isinstance(event, Failed), event.error
                if isinstance(event, Done):
                    transcripts[event.execution_id] = event.transcript
    finally:
        engine.stop()
    return transcripts


def check_words(expected, actual):
    """Same words; 95 % of them within 0.06 s, and probabilities to the third digit."""
    ours = [word for segment in actual for word in segment.words]
    theirs = [word for segment in expected for word in segment["words"]]
    assert [word for word, *_ in theirs] == [word.word for word in ours]
    near = [
        abs(start - word.start) < 0.061 and abs(end - word.end) < 0.061
        for (_, start, end, _), word in zip(theirs, ours, strict=True)
    ]
    assert sum(near) >= 0.95 * len(near)
    for (_, _, _, probability), word in zip(theirs, ours, strict=True):
        assert probability == pytest.approx(word.probability, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "recording"),
    [
        pytest.param("tiny.en", "librispeech-test-other-2033", marks=pytest.mark.slow),
        pytest.param("tiny.en", "librispeech", marks=pytest.mark.parity),
        pytest.param("base", "librispeech", marks=pytest.mark.parity),
    ],
)
def test_transcripts_with_every_option_are_the_references(model, recording, shared_data):
    """Token for token, window for window: prompts, clips, suppression, words; all in one batch."""
    wanted = entries(model, recording)
    transcripts = transcribe(model, wanted, shared_data)
    assert transcripts.keys() == wanted.keys()
    for key, entry in wanted.items():
        actual = transcripts[key].segments
        told = f"{entry['path']} with {entry['options']}"
        assert [(s["seek"], s["tokens"]) for s in entry["segments"]] == [
            (segment.seek, segment.tokens) for segment in actual
        ], told
        for expected, segment in zip(entry["segments"], actual, strict=True):
            assert expected["avg_logprob"] == pytest.approx(segment.avg_logprob, abs=1e-3), told
            assert expected["no_speech_prob"] == pytest.approx(segment.no_speech_prob, abs=1e-3)
        if entry["options"].get("word_timestamps"):
            check_words(entry["segments"], actual)
        else:
            times = [(segment.start, segment.end) for segment in actual]
            assert [(s["start"], s["end"]) for s in entry["segments"]] == times, told
