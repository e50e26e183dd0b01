"""How long a command takes from the shell's call to its end: `python tests/benchmarks/bench_start.py`.

The commands take turns, with `python -c pass` among them, so that all see the same machine. Beside
the time on the wall stands that of the processor, which says more on a machine that is busy. A server
of its own holds one recording that was submitted before; no worker runs. Other installations of
scribefarm can be named, to compare them in the same minutes.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path
from typing import NamedTuple

OURS = Path(sys.executable).parent


def commands(folder):
    """Return what is measured: a name, and its arguments."""
    wav = folder / "silence.wav"
    with wave.open(str(wav), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
        file.writeframes(bytes(32_000))
    return {
        "--version": ["--version"],
        "--help": ["--help"],
        "status": ["status"],
        "submit FILE": ["submit", str(wav)],
        "result JOB": ["result", "JOB"],
        "watch --help": ["watch", "--help"],
    }


class Took(NamedTuple):
    """Seconds on the wall, and of the processor."""

    wall: float
    cpu: float


def timed(arguments, environment):
    """Return what a program took, and what it printed on stdout."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, os.times()
    assert done.returncode in {0, 1}, done.stderr
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Took(wall, cpu), done.stdout


def measure(programs, rounds, folder):
    """Return the times of each program's commands and of Python alone, by (program, command)."""
    times = {}
    told = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TERM": "dumb"}
    # Python keeps what it compiled, unless a container's image says otherwise: half a second a call.
    told.pop("PYTHONDONTWRITEBYTECODE", None)
    for number in range(rounds + 1):
        for place, program in enumerate(programs):
            environment = {**told, "SCRIBEFARM_REDIS__EMBEDDED_DIR": str(folder / f"s{place}")}
            todo = commands(folder)
            took = {"python -c pass": timed([program / "python", "-c", "pass"], environment)[0]}
            _, job = timed([program / "scribefarm", *todo["submit FILE"]], environment)
            for name, arguments in todo.items():
                given = [job.strip() if each == "JOB" else each for each in arguments]
                took[name], _ = timed([program / "scribefarm", *given], environment)
            # The first round fills the caches of the system and starts the server.
            for name in took if number else ():
                times.setdefault((program, name), []).append(took[name])
    for place, program in enumerate(programs):
        environment = {**told, "SCRIBEFARM_REDIS__EMBEDDED_DIR": str(folder / f"s{place}")}
        timed([program / "scribefarm", "server", "stop"], environment)
    return times


def main():
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--also", type=Path, action="append", default=[], help="another bin/")
    asked = parser.parse_args()
    # Not below a long path: it would not fit into a socket's address.
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    try:
        times = measure([OURS, *asked.also], asked.rounds, folder)
    finally:
        shutil.rmtree(folder)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {asked.rounds} rounds")
    for (program, name), taken in times.items():
        wall, cpu = ([getattr(each, kind) for each in taken] for kind in Took._fields)
        print(
            f"{program}  {name:<16}"
            f" wall: median {statistics.median(wall):.3f}, least {min(wall):.3f};"
            f" processor: median {statistics.median(cpu):.3f}, least {min(cpu):.3f}"
        )


if __name__ == "__main__":
    main()
