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
def running_exporter(
    settings: Settings, log: Path, *, port: int = 0, max_age_s: float | None = None
) -> Iterator[int]:
    """Run `scribefarm metrics` on a port, which it tells; with a look's age of the test's own."""
    command = [sys.executable, "-m", "producer", "metrics", "--listen", str(port)]
    if max_age_s is not None:
        start = (
            "import sys; from producer.metrics import collector;"
            f" collector.MAX_AGE_S = {max_age_s}; from producer.__main__ import main; main()"
        )
        command = [sys.executable, "-c", start, *command[3:]]
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
