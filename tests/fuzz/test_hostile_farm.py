"""The hostile farm, run briefly: no worker and no command dies of what stands in the server."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("entries", "seed"), [(300, 7), pytest.param(3000, 8, marks=pytest.mark.slow)]
)
def test_no_worker_and_no_command_dies_of_hostile_entries(entries, seed):
    """`make fuzz` plants 20,000; each round has sound jobs beside them, which lose nothing."""
    command = [sys.executable, "-m", "tests.fuzz.hostile_farm"]
    command += ["--entries", str(entries), "--seed", str(seed)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert "dead workers: 0, dead commands: 0, other failures: 0" in ran.stdout
