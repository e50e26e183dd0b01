"""Times a peer on the five LibriSpeech chapters, one after another, and prints JSON.

`python tests/benchmarks/peers/throughput.py mlx-whisper [greedy] [--model tiny.en] [--files ...]`
The model is loaded and warmed up before the clock starts, and the files are already decoded: the
figure is the engine's alone. `make bench` runs it beside ours with the interpreter named by
PEERS_PYTHON; tests/data/README.md says how to make that environment.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from engines import PEERS, load, read_samples, reference_models

CHAPTERS = [
    f"audio/english/librispeech-test-other-{chapter}.flac"
    for chapter in (1688, 1998, 2033, 2414, 2609)
]


def measure(peer: str, mode: str, model: str, paths: list[str]) -> dict:
    """Transcribe `paths` in turn; `seconds` is the sum over them, `audio_s` what they last."""
    recordings = [(path, read_samples(path)) for path in paths]
    engine = load(peer, model, mode)
    engine.transcribe(np.zeros(16_000, dtype=np.float32))
    runs = []
    before_s = time.process_time()
    for path, samples in recordings:
        started = time.perf_counter()
        text = engine.transcribe(samples)
        seconds = time.perf_counter() - started
        runs.append(
            {"path": path, "audio_s": len(samples) / 16_000, "seconds": seconds, "text": text}
        )
        print(f"{path}: {seconds:.1f} s", file=sys.stderr, flush=True)
    cpu_s = time.process_time() - before_s
    audio_s = sum(run["audio_s"] for run in runs)
    seconds = sum(run["seconds"] for run in runs)
    return {
        "peer": peer,
        "mode": mode,
        "model": model,
        "versions": engine.versions,
        "options": engine.options,
        "machine": platform.processor() or platform.machine(),
        "num_cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "preload": os.environ.get("LD_PRELOAD", ""),
        "audio_s": audio_s,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "audio_s_per_s": audio_s / seconds,
        "files": runs,
        "text": "\n".join(run["text"].strip() for run in runs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("mode", nargs="?", default="greedy")
    parser.add_argument("--model", default="tiny.en", choices=sorted(reference_models.SOURCES))
    parser.add_argument("--files", nargs="+", default=CHAPTERS, help="paths of the manifest")
    arguments = parser.parse_args()
    report = measure(arguments.peer, arguments.mode, arguments.model, arguments.files)
    json.dump(report, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
