"""The whole bench on one machine: each part in a process of its own, one after another.

    python -m tests.benchmarks.gpu.drive --speech FOLDER [--parts device,files,...] [--most-s 580] [--part-s 60]

| part | what | seconds expected |
|---|---|---:|
| model, speech | Whisper of random weights, and recordings, in memory | 25 |
| device | ours without the engine; longer if MLX compiles its kernels first | 180 |
| profile | what a step of ours asks of CUDA, call by call, and every kernel | 60 |
| files | ours from files to results, at the device's best slots | 95 |
| files-256 | the same with 256 slots | 95 |
| memory | hours and short files through a full engine | 100 |
| redis | ours through the farm, at the slots of the better of these | 95 |
| parakeet | ours from files, with Parakeet 0.6b's shapes; cuDNN makes plans for 20 s | 130 |
| parakeet-vad | the same with a head that hears voices, in Silero's place | 130 |
| transformers | generate alone over its batches | 75 |
| static | the same with a static cache, decoder and encoder compiled | 180 |
| pipeline | its pipeline from the same files to text | 110 |
| pipeline-static | the same with a static cache, decoder and encoder compiled | 120 |
| limit | Whisper by hand in torch | 110 |

A part that fails or takes too long ends, what it told stays, and the next begins. A part whose seconds
are not left is not begun. Figures are kept in `--results` from call to call; all of them, and the
table, are in $OUT too after every line (gpu.json, gpu.md; the parts' own words in gpu.log).
"""

import argparse
import contextlib
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.gpu.table import ENGINE_PARTS, markdown

GPU = "tests.benchmarks.gpu"
DEFAULT_SLOTS = 192


@dataclass(frozen=True)
class Part:
    """A process of the bench.

    Attributes:
        module: What is run.
        flags: Its own, behind the common ones.
        expected_s: What it should take, its start included.
        limit_s: When it is ended.
    """

    module: str
    flags: tuple[str, ...]
    expected_s: int
    limit_s: int


# Recordings of 30 to 180 s that start at once end in waves; after 20 s they no longer do.
STEADY = ("--warm", "20", "--seconds", "40")
PARAKEET = ("--parts", "parakeet", "--processes", "14", "--slots", "256", "--warm", "40")
PARTS = {
    "model": Part(f"{GPU}.ours", (), 10, 60),
    "speech": Part(f"{GPU}.speech", ("--speech", "SPEECH"), 15, 60),
    "device": Part(f"{GPU}.device", ("--slots", "192,128,256,64"), 180, 300),
    "profile": Part(f"{GPU}.profile", (), 60, 120),
    "files": Part(f"{GPU}.files", (*STEADY, "--slots", "BEST", "--traced", "0.7"), 95, 170),
    "files-256": Part(f"{GPU}.files", (*STEADY, "--slots", "256"), 95, 150),
    "memory": Part(f"{GPU}.memory", ("--slots", "BEST"), 100, 130),
    "redis": Part(f"{GPU}.through_redis", (*STEADY, "--slots", "BEST", "--jobs", "2600"), 95, 170),
    "parakeet": Part(
        "tests.benchmarks.bench_parakeet_gpu",
        (*PARAKEET, "--traced", "0.7"),
        130,
        200,
    ),
    "parakeet-vad": Part(
        "tests.benchmarks.bench_parakeet_gpu",
        (*PARAKEET, "--vad"),
        130,
        200,
    ),
    "transformers": Part(f"{GPU}.transformers_rows", (), 75, 150),
    "static": Part(f"{GPU}.transformers_rows", ("--static", "--batches", "192,256,128"), 180, 300),
    "pipeline": Part(f"{GPU}.transformers_pipeline", (), 110, 180),
    "pipeline-static": Part(
        f"{GPU}.transformers_pipeline", ("--static", "--batches", "64"), 120, 200
    ),
    "limit": Part(f"{GPU}.torch_limit", (), 110, 200),
}
# For a CPU, on which nothing is measured: all that can be run is run.
TINY_FLAGS = {
    "device": ("--slots", "4,2", "--seconds", "2", "--warm", "1"),
    "profile": ("--slots", "4", "--steps", "4"),
    "files": ("--seconds", "8", "--warm", "5", "--processes", "2"),
    "files-256": ("--seconds", "8", "--warm", "5", "--slots", "2", "--processes", "2"),
    "memory": ("--seconds", "8", "--warm", "3", "--processes", "2"),
    "redis": ("--seconds", "10", "--warm", "1", "--jobs", "60", "--processes", "2"),
    "parakeet-vad": ("--processes", "2", "--slots", "4", "--seconds", "6", "--warm", "4"),
    "parakeet": ("--processes", "2", "--slots", "4", "--seconds", "6", "--warm", "4"),
    "transformers": ("--batches", "2"),
    "static": ("--batches", "2"),
    "pipeline": ("--batches", "2", "--files", "6"),
    "pipeline-static": ("--batches", "2", "--files", "6"),
    "limit": ("--rows", "2"),
    "speech": ("--count", "12"),
}


def best_slots(results):
    """Return the slots of the best row so far: of the engine, else of the device."""
    engines = [results.get(name, {}) for name in ENGINE_PARTS]
    rows = {each["slots"]: each["windows_per_s"] for each in engines if "windows_per_s" in each}
    device = results.get("device", {}).get("slots", {})
    rows = rows or {
        int(slots): row["windows_per_s"] for slots, row in device.items() if "windows_per_s" in row
    }
    return max(rows, key=rows.__getitem__, default=DEFAULT_SLOTS)


def command(name, results, arguments):
    """Return the command of a part."""
    part, folder = PARTS[name], arguments.memory
    known = {"SPEECH": str(arguments.speech), "BEST": str(best_slots(results))}
    flags = [known.get(flag, flag) for flag in part.flags]
    if arguments.shapes == "tiny":
        flags += TINY_FLAGS.get(name, ())
    recordings = folder / "recordings"
    if name.startswith("parakeet"):
        shapes = "tiny" if arguments.shapes == "tiny" else "0.6b"
        common = ["--audio", recordings, "--model", folder / name, "--shapes", shapes]
    else:
        common = ["--recordings", recordings, "--model", folder / "whisper"]
        common += ["--shapes", arguments.shapes]
    return [sys.executable, "-m", part.module, *map(str, common), *flags]


class Results:
    """What the parts told so far, in a folder and in $OUT."""

    def __init__(self, folder):
        self._folder, self._out = folder, Path(os.environ.get("OUT", folder))
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder.glob("part-*.json")
        self.parts = {
            path.stem.removeprefix("part-"): json.loads(path.read_text()) for path in paths
        }

    def add(self, name, figures):
        """Keep some figures of a part."""
        self.parts.setdefault(name, {}).update(figures)
        text = json.dumps(self.parts[name], indent=1)
        (self._folder / f"part-{name}.json").write_text(text, encoding="utf-8")
        (self._out / "gpu.json").write_text(json.dumps(self.parts, indent=1), encoding="utf-8")
        (self._out / "gpu.md").write_text(markdown(self.parts), encoding="utf-8")

    def begin(self, name):
        """Forget what an earlier call had of a part."""
        self.parts.pop(name, None)

    def log(self):
        return (self._out / "gpu.log").open("ab")


def read_lines(name, stream, results):
    """Keep every line of figures that a part prints, and show all lines."""
    for line in stream:
        print(f"{name}: {line.rstrip()}", flush=True)
        try:
            figures = json.loads(line)
        except ValueError:
            continue
        if isinstance(figures, dict):
            results.add(name, figures)


def run_part(name, results, arguments):
    """Run a part until it ends or its time is over; add how it ended."""
    results.begin(name)
    started = time.perf_counter()
    with results.log() as log:
        log.write(f"== {name}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command(name, results.parts, arguments),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        reader = threading.Thread(target=read_lines, args=(name, process.stdout, results))
        reader.start()
        limit_s = arguments.part_s
        if limit_s is None:
            limit_s = PARTS[name].limit_s if arguments.shapes == "turbo" else 300
        try:
            ended = f"exit {process.wait(limit_s)}"
        except subprocess.TimeoutExpired:
            ended = f"ended after {limit_s} s"
        # Also what it left behind: workers that read, compile or transcribe.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
    results.add(name, {"took_s": round(time.perf_counter() - started, 1), "ended": ended})
    print(f"{name}: {ended}, {results.parts[name]['took_s']} s", flush=True)


def machine():
    """Return which machine this is."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "host": platform.node(),
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
    }


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="in the order to run")
    parser.add_argument("--shapes", default="turbo", choices=("turbo", "tiny"))
    parser.add_argument("--results", type=Path, default=Path("/tmp/gpubench"))
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm/gpubench"))
    parser.add_argument(
        "--most-s", type=float, default=580, help="no part is begun that ends later"
    )
    parser.add_argument("--part-s", type=float, help="when each part is ended, in place of its own")
    return parser.parse_args()


def main():
    arguments = parsed()
    began, results = time.perf_counter(), Results(arguments.results)
    results.add("machine", machine())
    for name in arguments.parts.split(","):
        left = arguments.most_s - (time.perf_counter() - began)
        expected_s = min(PARTS[name].expected_s, arguments.part_s or math.inf)
        if left < expected_s and arguments.shapes == "turbo":
            print(f"{name}: not begun, {left:.0f} s are left", flush=True)
            continue
        run_part(name, results, arguments)
    print(markdown(results.parts), flush=True)


if __name__ == "__main__":
    main()
