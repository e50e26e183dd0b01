"""`scribefarm-worker doctor`: whether a machine can work, and what to do if it cannot."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stage.farm import free_port, running_server

ROOT = Path(__file__).resolve().parents[2]


def doctor(*arguments, **environment):
    """Run the installed program to its end."""
    variables = {name: text for name, text in os.environ.items() if "SCRIBEFARM" not in name}
    return subprocess.run(
        [Path(sys.executable).with_name("scribefarm-worker"), "doctor", *arguments],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def findings(ended):
    """Return the findings of a JSON report by check."""
    return {finding["check"]: finding for finding in json.loads(ended.stdout)}


@pytest.mark.weights
def test_a_working_machine_passes_every_check_and_nothing_is_left_running(embedded_dir):
    """The self-test hears real speech; the embedded server is looked for, not started."""
    ended = doctor("--json", SCRIBEFARM_REDIS__EMBEDDED_DIR=str(embedded_dir))
    found = findings(ended)
    assert ended.returncode == 0, ended.stdout
    checks = ["server", "audio", "device", "blas", "model", "memory", "self-test"]
    assert list(found) == checks
    assert [each for each in found.values() if each["status"] == "broken"] == []
    assert "GFLOP/s" in found["blas"]["found"]
    assert "tiny.en in float32" in found["model"]["found"]
    assert "rows" in found["memory"]["found"]
    assert "its text is right" in found["self-test"]["found"]
    assert list(embedded_dir.iterdir()) == []


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_broken_with_its_address_and_advice():
    """The other checks still run; the password of the address stays out."""
    url = f"redis://user:s3cret@127.0.0.1:{free_port()}"
    ended = doctor("--json", SCRIBEFARM_REDIS__URL=url, SCRIBEFARM_MODEL__NAME="no-such-model")
    found = findings(ended)
    assert ended.returncode == 1
    assert found["server"]["status"] == "broken"
    assert "127.0.0.1" in found["server"]["found"]
    assert "redis.url" in found["server"]["advice"]
    assert found["audio"]["status"] == "ok"
    assert "s3cret" not in ended.stdout + ended.stderr


def test_a_server_that_may_evict_jobs_is_pointed_out(tmp_path):
    """It works until memory is short, and then loses jobs."""
    with running_server(tmp_path, "--maxmemory-policy", "allkeys-lru") as server:
        ended = doctor(
            "--json", SCRIBEFARM_REDIS__URL=server.url, SCRIBEFARM_MODEL__NAME="no-such-model"
        )
    server_found = findings(ended)["server"]
    assert server_found["status"] == "slow"
    assert "allkeys-lru" in server_found["found"]
    assert "noeviction" in server_found["advice"]


def test_a_model_that_is_not_there_is_broken_and_ends_with_1(embedded_dir):
    """For a person: the line says which, and the next one what to do."""
    ended = doctor(
        SCRIBEFARM_REDIS__EMBEDDED_DIR=str(embedded_dir), SCRIBEFARM_MODEL__NAME="no-such-model"
    )
    assert ended.returncode == 1
    assert "broken" in ended.stdout
    assert "no-such-model" in ended.stdout
    assert "->" in ended.stdout
    assert ended.stderr == ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have MLX's alone")
def test_a_slow_blas_is_measured_and_the_way_out_is_named(embedded_dir):
    """The reference BLAS of MLX's Linux wheel multiplies many times more slowly than NumPy's."""
    ended = doctor(
        "--json",
        SCRIBEFARM_REDIS__EMBEDDED_DIR=str(embedded_dir),
        SCRIBEFARM_MODEL__NAME="no-such-model",
        SCRIBEFARM_MODEL__DTYPE="float32",
        SCRIBEFARM_WORKER__BACKEND="mlx",
    )
    found = findings(ended)["blas"]
    assert found["status"] == "slow"
    assert "reference BLAS" in found["found"]
    assert "worker.backend" in found["advice"]


def test_a_backend_that_cannot_work_is_broken_with_the_reason(embedded_dir):
    """NumPy's network computes in float32."""
    ended = doctor(
        "--json",
        SCRIBEFARM_REDIS__EMBEDDED_DIR=str(embedded_dir),
        SCRIBEFARM_MODEL__DTYPE="float16",
        SCRIBEFARM_WORKER__BACKEND="numpy",
    )
    found = findings(ended)
    assert ended.returncode == 1
    assert found["blas"]["status"] == found["model"]["status"] == "broken"
    assert "worker.backend" in found["blas"]["found"]
    assert "float16" in found["model"]["found"]


def test_wrong_settings_end_with_2_before_anything_is_checked():
    """The key is named, and stdout stays empty."""
    ended = doctor(SCRIBEFARM_WORKER__SLOTS="-1")
    assert ended.returncode == 2
    assert "worker.slots" in ended.stderr
    assert ended.stdout == ""
