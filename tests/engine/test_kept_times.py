"""Measured times on disk: the same again, anew when anything changed, and whatever lies there."""

import json
import os
import stat
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from worker.engine.kept_times import MOST_BYTES, KeptTimes, Measured
from worker.engine.times import Times

TIMES = Times(
    encode_s=((1, 1.0), (2, 1.8)),
    step_s=((1, 0.01), (2, 0.012)),
    host_s=(0.001, 0.0),
    unhidden_s=0.02,
    steps=100,
    patience_steps=16,
    bound="memory",
)
MEASURED = Measured(
    "host, EPYC, 2 processors", "mlx 0.32.4", "tiny.en, abc, float32", "auto", 10**9
)


@pytest.fixture
def kept(tmp_path):
    """Return the store of a folder that is not there yet."""
    return KeptTimes(tmp_path / "cache" / "calibration")


def file_of(kept):
    (path,) = kept._folder.iterdir()
    return path


def test_what_is_kept_is_found_again_exactly(kept):
    """Only by its user; nothing else lies beside it."""
    assert kept.find(MEASURED) is None
    kept.keep(MEASURED, TIMES)
    assert kept.find(MEASURED) == TIMES
    path = file_of(kept)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["machine", "versions", "model", "backend"])
def test_whatever_changes_is_measured_anew(kept, name):
    kept.keep(MEASURED, TIMES)
    assert kept.find(replace(MEASURED, **{name: "another"})) is None
    assert kept.find(replace(MEASURED, limit_bytes=1)) is None
    assert kept.find(replace(MEASURED, version=0)) is None


def _with(change):
    """Return a file of ours in which something is changed."""

    def write(path):
        stored = json.loads(path.read_text())
        change(stored)
        path.write_text(json.dumps(stored))

    return write


def _replaced_by(make):
    def write(path):
        path.unlink()
        make(path)

    return write


HOSTILE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "no JSON": lambda path: path.write_bytes(b"\xff\x00" * 50),
    "deep": lambda path: path.write_bytes(b"[" * 60_000),
    "too large": lambda path: path.write_bytes(path.read_bytes() + b" " * MOST_BYTES),
    "a list": lambda path: path.write_text("[1, 2]"),
    "NaN": _with(lambda stored: stored["times"].update(unhidden_s=float("nan"))),
    "infinite": _with(lambda stored: stored["times"].update(encode_s=[[1, float("inf")]])),
    "negative": _with(lambda stored: stored["times"].update(encode_s=[[1, -1.0]])),
    "no batch of one": _with(lambda stored: stored["times"].update(encode_s=[[4, 1.0]])),
    "no sizes": _with(lambda stored: stored["times"].update(encode_s=[])),
    "zero rows": _with(lambda stored: stored["times"].update(step_s=[[0, 1.0]])),
    "a million rows": _with(lambda stored: stored["times"].update(step_s=[[1, 1.0], [10**6, 1.0]])),
    "no steps": _with(lambda stored: stored["times"].update(steps=0)),
    "text": _with(lambda stored: stored["times"].update(steps="100")),
    "more": _with(lambda stored: stored["times"].update(code="import os")),
    "another machine's": _with(lambda stored: stored["measured"].update(machine="elsewhere")),
    "a folder": _replaced_by(lambda path: path.mkdir()),
    "a pipe": _replaced_by(os.mkfifo),
    "a link": _replaced_by(lambda path: path.symlink_to("/etc/passwd")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_ours_counts_as_none(kept, name):
    """Nothing waits, nothing fails; keeping the new times mends it, where a file can."""
    kept.keep(MEASURED, TIMES)
    HOSTILE[name](file_of(kept))
    with capture_logs() as logs:
        assert kept.find(MEASURED) is None
    assert [each["event"] for each in logs] in ([], ["calibration_unreadable"])
    kept.keep(MEASURED, TIMES)
    assert kept.find(MEASURED) == (None if name == "a folder" else TIMES)


def test_a_folder_that_cannot_be_written_costs_one_line_of_the_log(tmp_path):
    """As on a read-only disk: here a file stands where the folder would be."""
    (tmp_path / "cache").write_text("no folder")
    kept = KeptTimes(tmp_path / "cache" / "calibration")
    with capture_logs() as logs:
        assert kept.find(MEASURED) is None
        kept.keep(MEASURED, TIMES)
    assert [each["event"] for each in logs] == ["calibration_not_kept"]
