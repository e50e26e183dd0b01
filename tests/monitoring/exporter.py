"""An exporter in a process of its own."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from producer.settings import Settings
from tests.stage.farm import ROOT, wait_until


@contextlib.contextmanager
def running_exporter(settings: Settings, log: Path) -> Iterator[int]:
    """Run `scribefarm metrics` on a free port, which it tells."""
    command = [sys.executable, "-m", "producer", "metrics", "--listen", "0"]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | settings.to_environment(), stderr=stderr
        )
    try:
        found = wait_until(lambda: re.search(r"http://127.0.0.1:(\d+)/metrics", log.read_text()))
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(10)
