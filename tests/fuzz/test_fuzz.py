"""The fuzzer, run briefly: damaged recordings never crash, hang or pass as sound ones."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_recordings_end_as_samples_or_as_typed_errors():
    """1,500 seeded mutations in child processes; `make fuzz` runs 20,000."""
    command = [sys.executable, "tests/fuzz/run.py", "--mutations", "1500", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
