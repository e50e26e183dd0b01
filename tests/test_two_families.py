"""Whisper and Parakeet on one farm, with real workers: jobs name their model.

The Parakeet is small and random, and its vocabulary is German words: whatever it hears, it writes
German. The Whisper is OpenAI's tiny.en.
"""

import contextlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from producer import embedded
from producer.job import Job, Options
from producer.queue import read_result, submit
from producer.result import LANGUAGE_DRIFT
from tests.conftest import ROOT
from tests.stage.farm import wait_until
from tests.stage.tiny_parakeets import random_parakeet, tiny_config, write_mlx
from worker.cli.measure import clip
from worker.models.parakeet.vocabulary import Vocabulary

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.timeout(600)]

PATIENCE_S = 300
WHISPER = "tiny.en"
# More pieces than any model of English alone has.
NUM_LABELS = 1200
WORDS = [
    "Morgen",
    "früh",
    "gehen",
    "wir",
    "zusammen",
    "über",
    "die",
    "Straße",
    "zum",
    "Markt",
    "und",
    "kaufen",
    "dort",
    "frisches",
    "Brot",
    "Käse",
    "Tomaten",
    "Zwiebeln",
    "weil",
    "unsere",
    "Großmutter",
    "heute",
    "Abend",
    "für",
    "alle",
    "Nachbarn",
    "kochen",
    "möchte",
]


@pytest.fixture
def parakeet(tmp_path):
    """Return the folder of a small model of 25 languages that only knows German words."""
    weights = random_parakeet(tiny_config(num_labels=NUM_LABELS))
    pieces = ["<unk>", *(f"\u2581{WORDS[index % len(WORDS)]}" for index in range(1, NUM_LABELS))]
    spoken = replace(weights, vocabulary=Vocabulary(tuple(pieces)))
    return str(write_mlx(spoken, tmp_path / "german"))


@pytest.fixture
def start(settings, tmp_path):
    """Return a function that starts a real worker of a model, as a person does."""
    with contextlib.ExitStack() as stack:

        def run(name, model):
            fast = {"LEASE_S": "10", "HEARTBEAT_S": "1", "REAP_S": "1", "SLOTS": "2"}
            env = {f"SCRIBEFARM_WORKER__{key}": value for key, value in fast.items()}
            env["SCRIBEFARM_MODEL__NAME"] = model
            env["SCRIBEFARM_MODEL__DTYPE"] = "float32"
            env["SCRIBEFARM_REDIS__URL"] = f"unix://{embedded.status(settings).socket}"
            log = stack.enter_context((tmp_path / f"{name}.log").open("wb"))
            command = [sys.executable, "-m", "worker", "run", "--name", name]
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | env, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield run


def test_each_job_gets_the_text_of_its_own_family(connection, settings, parakeet, start):
    """The same recording twice; a third one drifts, and Whisper hears it anew."""
    start("parakeet", parakeet)
    start("whisper", WHISPER)
    english = {"language": "en"}
    drifts = english | {"on_drift": "whisper", "drift_model": WHISPER}
    asked = [
        Job(source=str(clip()), model=WHISPER, options=Options(**english)),
        Job(source=str(clip()), model=parakeet, options=Options(**english)),
        Job(source=str(clip()), model=parakeet, options=Options(**drifts)),
    ]
    entries = submit(connection, settings, asked)
    assert len({entry.job_id for entry in entries}) == 3
    whisper, drifted, heard_anew = (
        wait_until(lambda job_id=entry.job_id: read_result(connection, job_id), PATIENCE_S)
        for entry in entries
    )
    assert "Ever tried" in whisper.text
    assert (drifted.model.name, drifted.language) == (parakeet, "de")
    assert LANGUAGE_DRIFT in drifted.flags
    assert drifted.text.split()[0] in WORDS
    assert (heard_anew.model.name, heard_anew.text) == (WHISPER, whisper.text)
    assert heard_anew.worker.startswith("whisper")
    assert heard_anew.flags == whisper.flags
    assert not list(connection.scan_iter("scribefarm:checkpoint:*"))
