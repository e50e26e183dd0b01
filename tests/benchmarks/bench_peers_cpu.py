"""Ours beside faster-whisper and openai-whisper on a CPU, in turn, greedy or with five beams.

    PEERS_PYTHON=.tools/reference/bin/python python -m tests.benchmarks.bench_peers_cpu
        [--beams] [--one] [--model base] [--rounds 3] [--keep runs.jsonl]

Five chapters together, or one recording of three minutes alone. Each round runs every engine once;
medians of the rounds count. Beside the time on the clock stands that of the processor, which other
programs on the machine change less. `--keep` adds the rounds to a file's, and counts them all: a
machine that is shared is seldom free for long. Prints a table.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.run import CHAPTERS, HERE, PEERS_VARIABLE, SINGLE_S, run_json, write_single

OURS = "scribefarm"
GREEDY_PEERS = {
    "faster-whisper": ("faster-whisper", "greedy"),
    "faster-whisper, int8": ("faster-whisper", "int8"),
    "faster-whisper, 4 windows at once": ("faster-whisper", "batched-greedy:4"),
    "faster-whisper, 8 windows at once": ("faster-whisper", "batched-greedy:8"),
}
# What one long recording has windows for; a chapter has four.
LARGE_BATCHES = {
    f"faster-whisper, {size} windows at once": ("faster-whisper", f"batched-greedy:{size}")
    for size in (16, 32)
}
BEAM_PEERS = {
    "faster-whisper": ("faster-whisper", "beams"),
    "faster-whisper, 8 windows at once": ("faster-whisper", "batched-beams:8"),
    "openai-whisper": ("openai-whisper", "beams"),
}


def measured(asked, model, beams, files):
    """Return one run's (seconds, processor seconds) of ours, or of a peer and mode."""
    if asked is not None:
        python = os.environ.get(PEERS_VARIABLE, sys.executable)
        script = HERE / "peers" / "throughput.py"
        report = run_json(python, script, *asked, "--model", model, "--files", *files)
        return report["seconds"], report["cpu_s"]
    options = ("--beams", "5") if beams else ()
    report = run_json(sys.executable, HERE / "ours.py", "--model", model, *options, *files)
    return report["measured"]["wall_s"], report["cpu_s"]


def one_round(arguments, files):
    """Yield (engine, figures) of every engine, ours first."""
    large = LARGE_BATCHES if arguments.one else {}
    peers = BEAM_PEERS if arguments.beams else GREEDY_PEERS | large
    for engine, asked in {OURS: None, **peers}.items():
        found = measured(asked, arguments.model, arguments.beams, files)
        print(engine, *(f"{each:.1f} s" for each in found), file=sys.stderr, flush=True)
        yield engine, found


def table(runs):
    """Yield the medians of (engine, figures), and how many times those of ours they are."""
    by_engine = defaultdict(list)
    for engine, figures in runs:
        by_engine[engine].append(figures)
    medians = {
        engine: [statistics.median(column) for column in zip(*found, strict=True)]
        for engine, found in by_engine.items()
    }
    yield "| engine | seconds | to ours | processor seconds | to ours |\n|---|---:|---:|---:|---:|"
    ours_s, ours_cpu_s = medians[OURS]
    for engine, (wall_s, cpu_s) in medians.items():
        row = f"{wall_s:.1f} | {wall_s / ours_s:.2f} | {cpu_s:.1f} | {cpu_s / ours_cpu_s:.2f}"
        yield f"| {engine} | {row} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--beams", action="store_true", help="five; else greedy")
    parser.add_argument("--one", action="store_true", help="three minutes alone; else the chapters")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a file of earlier rounds")
    arguments = parser.parse_args()
    earlier = arguments.keep and arguments.keep.exists() and arguments.keep.read_text("utf-8")
    runs = [json.loads(line) for line in (earlier or "").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        single = Path(folder) / "joined.flac"
        write_single(single, SINGLE_S)
        files = [str(single)] if arguments.one else CHAPTERS
        for _ in range(arguments.rounds):
            for run in one_round(arguments, files):
                runs.append(run)
                if arguments.keep:
                    with arguments.keep.open("a", encoding="utf-8") as kept:
                        kept.write(json.dumps(run) + "\n")
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
