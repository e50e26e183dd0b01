"""Five beams on real speech, token for token openai-whisper's: tests/data/beam_goldens.jsonl.

All files of a model are in flight at once, read by our own reader as the reference's ffmpeg reads.
With fallback a text is drawn by chance where no beam's will do, by another generator than the
reference's: each window that has the reference's history must be the reference's, and be drawn
where the reference's is.
"""

import json
from pathlib import Path

import pytest

from producer.job import AudioOptions, Job, Options
from tests.models.whisper.test_golden import DEADLINE_S
from worker.engine.messages import Done, Failed, Ticket
from worker.models.whisper.transcription import HOTTEST_HISTORY

GOLDENS = Path(__file__).parents[2] / "data" / "beam_goldens.jsonl"
DEFAULT_RUN = ("audio/english/jfk.flac", "audio/fleurs/fleurs-en-003.ogg")
MOST_HISTORY = 223

pytestmark = [pytest.mark.archive, pytest.mark.weights, pytest.mark.timeout(DEADLINE_S)]


def goldens(model):
    """Return the stored transcripts of a model, by the key of the job that repeats each."""
    lines = map(json.loads, GOLDENS.read_text("utf-8").splitlines())
    return {
        f"{entry['path']} {entry['temperatures']}": entry
        for entry in lines
        if entry["model"] == model
    }


def job_of(entry, folder):
    """Return the job that asks for what the reference was asked for."""
    is_before_6 = int(entry["ffmpeg"].lstrip("n").partition(".")[0]) < 6
    return Job(
        source=str(folder / entry["path"]),
        options=Options(beam_size=5, best_of=5, temperatures=tuple(entry["temperatures"])),
        audio=AudioOptions(resampler="ffmpeg" if is_before_6 else "ffmpeg6"),
    )


def transcribe(engine, entries, folder):
    """Return the transcript of each entry, all of them in flight at once."""
    for key, entry in entries.items():
        engine.submit(Ticket(key, key, job_of(entry, folder)))
    transcripts = {}
    while len(transcripts) < len(entries):
        for event in engine.poll(1.0):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Done):
                transcripts[event.execution_id] = event.transcript
    return transcripts


def windows(segments):
    """Return (temperature, history, segments) of each window, by its seek."""
    found, history = {}, []
    by_seek = {}
    for segment in segments:
        by_seek.setdefault(segment["seek"], []).append(segment)
    for seek, own in by_seek.items():
        temperature = own[0]["temperature"]
        found[seek] = temperature, history[-MOST_HISTORY:], own
        history = history + [token for segment in own for token in segment["tokens"]]
        if temperature > HOTTEST_HISTORY:
            history = []
    return found


def differing_segments(expected, actual):
    """Name everything in which two windows, or transcripts, differ."""
    exact = ("seek", "start", "end", "tokens", "temperature")
    for theirs, ours in zip(expected, actual, strict=False):
        left, right = ([segment[name] for name in exact] for segment in (theirs, ours))
        if left != right:
            yield f"expected {left}, got {right}"
        for name in ("avg_logprob", "no_speech_prob"):
            if abs(theirs[name] - ours[name]) > 1e-3:
                yield f"{name} at {ours['start']}: {theirs[name]}, got {ours[name]}"
    if len(expected) != len(actual):
        yield f"expected {len(expected)} segments, got {len(actual)}"


def differences(entry, transcript):
    """Name everything in which a transcript is not the stored one, draws apart."""
    ours = [segment.model_dump() for segment in transcript.segments]
    if entry["language"] != transcript.language:
        yield f"language {transcript.language}"
    if not entry["num_fallbacks"]:
        yield from differing_segments(entry["segments"], ours)
        if entry["text"] != transcript.text:
            yield "the text"
        return
    found = windows(ours)
    for seek, (temperature, history, segments) in windows(entry["segments"]).items():
        our_temperature, our_history, our_segments = found.get(seek, (None, None, []))
        if our_history != history:
            continue
        if temperature == 0:
            yield from differing_segments(segments, our_segments)
        elif our_temperature == 0:
            yield f"window {seek}: drawn at {temperature}, ours is of five beams"


def differing(engine, entries, folder):
    """Return the differences of every transcript that differs."""
    transcripts = transcribe(engine, entries, folder)
    found = {key: list(differences(entry, transcripts[key])) for key, entry in entries.items()}
    return {key: said for key, said in found.items() if said}


def test_five_beams_give_the_references_text(real_engine, shared_data):
    """Segments, times and tokens are equal; log-probabilities within 1e-3."""
    entries = {
        key: entry for key, entry in goldens("tiny.en").items() if entry["path"] in DEFAULT_RUN
    }
    assert len(entries) == len(DEFAULT_RUN)
    assert differing(real_engine("tiny.en"), entries, shared_data) == {}


@pytest.mark.parity
@pytest.mark.parametrize("model", ["tiny.en", pytest.param("base", marks=pytest.mark.long)])
def test_every_golden_transcript_of_five_beams_is_the_references(model, real_engine, shared_data):
    """English, FLEURS, and a third of the speakers and of the world."""
    entries = goldens(model)
    found = differing(real_engine(model), entries, shared_data)
    print(
        f"\n{model}: {len(entries) - len(found)} of {len(entries)} transcripts are the reference's"
    )
    for key, said in found.items():
        print(f"  {key}", *said, sep="\n    ")
    assert found == {}
