"""`scribefarm-worker calibrate`: what was measured and what is chosen by it, as a person sees it."""

import json

import pytest
from typer.testing import CliRunner

from tests.stage.tiny_models import tiny_random_whisper, write_mlx
from worker.__main__ import app
from worker.engine import calibration
from worker.models import load


@pytest.fixture
def calibrate(tmp_path, monkeypatch):
    """Return a function that runs the command for a small model, on a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(calibration, "BUDGET_S", 1.0)
    model = write_mlx(tiny_random_whisper(), tmp_path / "model")

    def run(*arguments):
        done = CliRunner().invoke(app, ["calibrate", "--model", str(model), *arguments])
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


def test_it_measures_once_and_shows_what_is_chosen(calibrate, monkeypatch):
    """A table of batches, one of slots, and the reason; the second time nothing is measured."""
    shown = calibrate()
    assert shown.count("chosen") == 1
    assert "the most measured, would make it" in shown
    monkeypatch.setattr(load, "measure", None)
    assert calibrate() == shown


def test_again_measures_anew(calibrate, monkeypatch):
    """For a machine that was busy, or has changed; JSON has all that was measured."""
    first = json.loads(calibrate("--json"))
    measured = []
    real = load.measure
    monkeypatch.setattr(load, "measure", lambda *a, **k: measured.append(1) or real(*a, **k))
    again = json.loads(calibrate("--again", "--json"))
    assert measured == [1]
    assert set(again["chosen"]) == {"slots", "batch_size", "steps_ahead", "rows"}
    assert again["measured"]["encode_s"] != first["measured"]["encode_s"]
    assert json.loads(calibrate("--json")) == again
