"""Recordings of your own, token for token openai-whisper's: `make parity FOLDER=... MODEL=...`.

Not among the tests that run by themselves: it needs the file that tests/data/make_goldens.py wrote.
"""

import json
import os
from pathlib import Path

import pytest

from producer.job import AudioOptions
from tests.models.whisper.test_golden import DEADLINE_S, differing, transcribe

pytestmark = [pytest.mark.weights, pytest.mark.timeout(DEADLINE_S)]


def test_a_folder_of_yours_is_transcribed_token_for_token_as_the_reference_does(real_engine):
    """Language, text, segments, times and tokens; each difference is printed."""
    folder = Path(os.environ["PARITY_FOLDER"])
    entries = [
        json.loads(line) for line in Path(os.environ["PARITY_GOLDENS"]).read_text().splitlines()
    ]
    assert entries, "openai-whisper could read no file of the folder"
    golden = {(entry["model"], entry["path"]): entry for entry in entries}
    model = entries[0]["model"]
    is_before_6 = int(entries[0]["ffmpeg"].lstrip("n").partition(".")[0]) < 6
    audio = AudioOptions(resampler="ffmpeg" if is_before_6 else "ffmpeg6")
    files = {entry["path"]: folder / entry["path"] for entry in entries}
    found = differing(golden, model, transcribe(real_engine(model), files, audio))
    print(f"\n{model}: {len(files) - len(found)} of {len(files)} files equal the reference's")
    for path, said in found.items():
        print(f"  {path}", *said, sep="\n    ")
    assert found == {}
