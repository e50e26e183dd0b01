"""A start measures the device once for each model, follows what it found, and gives the same text."""

import json
import os
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from producer.cache_folder import cache_folder
from producer.job import Job, Options
from producer.settings import Settings
from tests.stage.tiny_models import tiny_random_whisper, write_mlx
from tests.stage.tiny_parakeets import random_parakeet, tiny_config
from worker.engine import calibration
from worker.engine.calibration import measure
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Ticket
from worker.engine.times import Times
from worker.models import load
from worker.models.load import load_family, open_family, planned
from worker.models.parakeet.family import ParakeetFamily
from worker.models.whisper.family import WhisperFamily


@pytest.fixture(autouse=True)
def _own_cache_and_little_time(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "BUDGET_S", 1.0)


def settings_of(name="tiny.en", **worker):
    return Settings(model={"name": str(name), "dtype": "float32"}, worker=worker)


def kept_files():
    folder = cache_folder() / "calibration"
    return sorted(folder.iterdir()) if folder.exists() else []


def nothing_is_measured(*_arguments, **_options):
    raise AssertionError("measured")


FAMILIES = {
    "whisper-numpy": lambda: WhisperFamily(tiny_random_whisper(), mx.float32, "numpy"),
    "whisper-mlx": lambda: WhisperFamily(tiny_random_whisper(), mx.float32, "mlx"),
    "parakeet-numpy": lambda: parakeet("numpy"),
    "parakeet-mlx": lambda: parakeet("mlx"),
    "parakeet-ctc-numpy": lambda: parakeet("numpy", ctc=True),
    "parakeet-ctc-mlx": lambda: parakeet("mlx", ctc=True),
}
ALL = [pytest.param(name, marks=[pytest.mark.mlx] if "mlx" in name else []) for name in FAMILIES]


def parakeet(backend, **config):
    return ParakeetFamily(random_parakeet(tiny_config(**config)), mx.float32, backend)


@pytest.mark.parametrize("name", ALL)
def test_every_family_and_network_is_measured_the_same_way(name):
    """One window and two rows at least; the steps of a window, and the encoder of a batch."""
    rehearsal = FAMILIES[name]().rehearsal()
    times, is_complete = measure(rehearsal, lambda slots, batch: slots <= 4 and batch <= 2)
    assert is_complete
    assert times.encode_s[0][0] == 1
    assert [size for size, _ in times.step_s][:2] == ([] if "ctc" in name else [1, 2])
    assert times.steps == rehearsal.steps
    chosen = times.choose(lambda slots, batch: slots <= 4 and batch <= 2)
    assert 1 <= chosen.batch_size <= chosen.slots <= 4


def test_a_device_is_measured_once_for_each_model(tmp_path, monkeypatch):
    """tiny.en is measured, kept and read again; another model is measured for itself."""
    family = load_family(settings_of(), "missing")
    (path,) = kept_files()
    stored = json.loads(path.read_text())
    assert stored["measured"]["model"].startswith("tiny.en, ")
    assert 0.001 < dict(map(tuple, stored["times"]["encode_s"]))[1] < 60

    monkeypatch.setattr(load, "measure", nothing_is_measured)
    unpinned = open_family(settings_of())
    assert planned(unpinned, settings_of(), "missing")[0] == family.plan
    assert planned(unpinned, settings_of(), "kept")[0] == family.plan
    assert planned(unpinned, settings_of(slots=3), "missing")[0].slots == 3
    with pytest.raises(AssertionError, match="measured"):
        planned(unpinned, settings_of(), "again")

    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "BUDGET_S", 1.0)
    other = write_mlx(tiny_random_whisper(), tmp_path / "other")
    load_family(settings_of(other), "missing")
    assert len(kept_files()) == 2


def test_a_start_that_measures_nothing_keeps_nothing():
    """Commands and tests on a CPU: eight slots, one window after the other."""
    plan = load_family(settings_of()).plan
    assert (plan.slots, plan.batch_size, plan.steps_ahead) == (8, 1, 1)
    assert kept_files() == []


def test_a_file_that_somebody_left_there_is_measured_over(tmp_path):
    """The start goes on; the next one reads what it measured."""
    model = write_mlx(tiny_random_whisper(), tmp_path / "model")
    plan = load_family(settings_of(model), "missing").plan
    (path,) = kept_files()
    path.write_bytes(os.urandom(1000))
    load_family(settings_of(model), "missing")
    assert json.loads(path.read_text())["times"]["step_s"]
    assert plan.slots >= 1


# Of devices unlike each other: what is chosen on them is in the name.
DEVICES = {
    "1 slot": Times(((1, 1e-9),), ((1, 1.0), (2, 2.0)), (), 1.0, 100, 16),
    "32 slots, 4 at once, none ahead": Times(
        ((1, 1.0), (2, 1.01), (4, 1.02)),
        tuple((1 << n, 1.0 + 0.001 * n) for n in range(6)),
        (),
        1.0,
        100,
        16,
    ),
    "5 steps ahead": Times(((1, 1.0),), ((1, 0.001), (2, 0.001), (4, 0.001)), (), 1.0, 100, 16),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return recordings of noise of different lengths, one of two windows."""
    folder = tmp_path_factory.mktemp("audio")
    for number, seconds in enumerate((1.0, 3.0, 8.0, 33.0, 0.5, 12.0)):
        noise = np.random.default_rng(number).normal(0, 0.1, round(16_000 * seconds))
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def texts():
    """Return what each device made of the recordings so far."""
    return {}


@pytest.mark.parametrize("device", DEVICES)
def test_the_text_does_not_depend_on_what_is_chosen(
    device, recordings, texts, tmp_path, monkeypatch
):
    """More recordings than slots, or all together: token for token the same."""
    monkeypatch.setattr(load, "measure", lambda *_, **__: (DEVICES[device], True))
    model = write_mlx(tiny_random_whisper(), tmp_path / "model")
    engine = BatchEngine(
        settings_of(model), lambda settings: load_family(settings, calibrate="again")
    )
    options = Options(temperatures=(0.0,), beam_size=None, sample_len=12)
    for path in recordings:
        engine.submit(Ticket(path.name, path.name, Job(source=str(path), options=options)))
    ended = {}
    while len(ended) < len(recordings):
        events = [each for each in engine.poll(20.0) if isinstance(each, Done)]
        ended |= {each.execution_id: each.transcript for each in events}
    plan = engine.plan
    engine.stop()
    said = f"{plan.slots} slot{'s' * (plan.slots > 1)}, {plan.batch_size} at once, none ahead"
    assert device in (said, f"{plan.slots} slot", f"{plan.steps_ahead} steps ahead")
    tokens = {
        name: [segment.tokens for segment in transcript.segments]
        for name, transcript in ended.items()
    }
    texts[device] = tokens
    assert tokens == next(iter(texts.values()))
    assert replace(plan, more_rows=0).fits
