"""Five beams on five chapters: ours beside faster-whisper and openai-whisper, in turn.

    PEERS_PYTHON=.tools/reference/bin/python python -m tests.benchmarks.bench_beams [--model base]

Each round runs every engine once; medians of the rounds count. Beside the time on the clock stands
that of the processor, which other programs on the machine change less. Prints a table.
"""

import argparse
import os
import statistics
import sys
from collections import defaultdict

from tests.benchmarks.run import CHAPTERS, HERE, PEERS_VARIABLE, run_json

OURS, GREEDY = "scribefarm, 5 beams", "scribefarm, greedy"
PEERS = {
    "faster-whisper, 5 beams": ("faster-whisper", "beams"),
    "faster-whisper, 5 beams, 8 windows at once": ("faster-whisper", "batched-beams"),
    "openai-whisper, 5 beams": ("openai-whisper", "beams"),
}


def measured(engine, model, python, chapters):
    """Return one run's (seconds, processor seconds)."""
    if engine in PEERS:
        script = HERE / "peers" / "throughput.py"
        report = run_json(python, script, *PEERS[engine], "--model", model, "--files", *chapters)
        return report["seconds"], report["cpu_s"]
    beams = ("--beams", "5") if engine == OURS else ()
    report = run_json(sys.executable, HERE / "ours.py", "--model", model, *beams, *chapters)
    return report["measured"]["wall_s"], report["cpu_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chapters", type=int, default=len(CHAPTERS))
    arguments = parser.parse_args()
    python = os.environ.get(PEERS_VARIABLE, sys.executable)
    runs = defaultdict(list)
    for _ in range(arguments.rounds):
        for engine in (OURS, *PEERS, GREEDY):
            found = measured(engine, arguments.model, python, CHAPTERS[: arguments.chapters])
            runs[engine].append(found)
            print(engine, *(f"{each:.1f} s" for each in found), file=sys.stderr, flush=True)
    print("| engine | seconds | to ours | processor seconds | to ours |\n|---|---:|---:|---:|---:|")
    medians = {
        engine: [statistics.median(column) for column in zip(*found, strict=True)]
        for engine, found in runs.items()
    }
    for engine, (wall_s, cpu_s) in medians.items():
        ours_s, ours_cpu_s = medians[OURS]
        row = f"{wall_s:.1f} | {wall_s / ours_s:.2f} | {cpu_s:.1f} | {cpu_s / ours_cpu_s:.2f}"
        print(f"| {engine} | {row} |")


if __name__ == "__main__":
    main()
