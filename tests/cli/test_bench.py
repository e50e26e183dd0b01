"""`scribefarm-worker bench`: real speech through the real engine, and where the time went."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"

pytestmark = pytest.mark.weights


def bench(*arguments, **environment):
    """Run the installed program to its end."""
    variables = {name: text for name, text in os.environ.items() if "SCRIBEFARM" not in name}
    return subprocess.run(
        [Path(sys.executable).with_name("scribefarm-worker"), "bench", *map(str, arguments)],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_figures_are_of_the_recordings_that_were_given_and_add_up():
    """Two recordings once: seconds, windows, tokens, rows; shares make the whole time."""
    ended = bench("--audio", CLIP, "--audio", CLIP, "--slots", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    measured = report["measured"]
    assert measured["num_recordings"] == measured["windows"] == 2
    assert measured["audio_s"] == pytest.approx(2 * 9.963, abs=0.01)
    assert measured["audio_s_per_s"] == pytest.approx(measured["audio_s"] / measured["wall_s"])
    # Each text takes about 20 tokens, and has five hypotheses.
    assert 5 * 30 <= measured["tokens"] <= 5 * 60
    assert 1 <= measured["rows_per_step"] <= measured["slots"] == 2
    assert measured["occupancy"] == measured["rows_per_step"] / 2
    shares = sum(measured[f"{name}_s"] for name in ("encoder", "decoder", "host", "idle"))
    assert shares == pytest.approx(measured["wall_s"], rel=0.05)
    assert min(measured["encoder_s"], measured["decoder_s"], measured["host_s"]) > 0
    # More than the weights, which are 151 MB in float32.
    assert 151e6 < measured["peak_device_bytes"] < measured["peak_resident_bytes"]
    assert measured["model"]["name"] == "tiny.en"
    assert {"system", "device", "backend", "blas", "num_cpus"} <= report["machine"].keys()
    assert {"scribefarm", "mlx", "python"} <= report["versions"].keys()
    assert report["workload"]["num_files"] == 2
    assert report["workload"]["decoding"] == "5 beams"


@pytest.mark.slow
def test_without_recordings_the_packaged_clip_fills_a_window_and_a_table_is_printed():
    """For a person: every figure has its line on stdout, and nothing is on stderr."""
    ended = bench("--seconds", "0")
    assert ended.returncode == 0, ended.stderr
    for line in ("audio     28.4 s in 1 recordings", "speed", "tokens", "encoder", "memory"):
        assert line in ended.stdout
    assert ended.stderr == ""


@pytest.mark.slow
def test_a_recording_that_fails_is_named_and_the_rest_is_measured(tmp_path):
    """The exit code says that something failed; the figures are those of the good one."""
    ended = bench("--audio", tmp_path / "missing.wav", "--audio", CLIP, "--json")
    assert ended.returncode == 1
    measured = json.loads(ended.stdout)["measured"]
    assert measured["num_recordings"] == 1
    assert "missing.wav" in measured["failures"][0]


def test_without_any_recording_that_can_be_read_no_figures_are_printed(tmp_path):
    """A table of zeros would look like a measurement."""
    ended = bench("--audio", tmp_path / "missing.wav")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "failed: " in ended.stderr
    assert "missing.wav" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--slots", "many"), 2, "--slots"),
        (("--slots", "0"), 2, "worker.slots"),
        (("--model", "no-such-model"), 1, "no-such-model"),
        (("--slots", "1000", "--audio", CLIP), 1, "must fit into memory"),
    ],
)
def test_what_cannot_be_measured_ends_with_a_reason(arguments, code, named):
    """Wrong usage is 2; a model that is not there or does not fit is 1."""
    ended = bench(*arguments, SCRIBEFARM_WORKER__MEMORY_LIMIT_BYTES="2000000000")
    assert ended.returncode == code
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
