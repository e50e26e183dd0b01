"""Times our engine on recordings that are submitted together, and prints JSON.

    python tests/benchmarks/ours.py [--model tiny.en] [--slots auto] [--beams 5] FILE ...

The counterpart of peers/throughput.py: greedy or with beams, without fallback, the model loaded and warmed up before the clock
starts. Ours reads, decodes and resamples the files while the clock runs; the peers get samples.
FILEs are paths of the shared manifest, or absolute.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from producer.settings import load_settings
from worker.cli.bench import describe
from worker.cli.measure import Workbench

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def measure(paths, model, slots, beams):
    settings = load_settings(model={"name": model}, worker={"slots": slots})
    asked = {"temperatures": (0.0,), "beam_size": beams}
    options = settings.options.model_copy(update=asked)
    with Workbench(settings) as bench:
        before_s = time.process_time()
        measured = bench.run([SHARED_DATA / path for path in paths], options)
        cpu_s = time.process_time() - before_s
    if measured.failures:
        sys.exit("\n".join(measured.failures))
    report = describe(measured, {"files": paths, **asked, "together": len(paths)})
    texts = {path: measured.texts[number] for number, path in enumerate(paths)}
    return report | {"model": model, "texts": texts, "cpu_s": cpu_s}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--slots", default="auto")
    parser.add_argument("--beams", type=int)
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    slots = arguments.slots if arguments.slots == "auto" else int(arguments.slots)
    json.dump(
        measure(arguments.files, arguments.model, slots, arguments.beams), sys.stdout, indent=1
    )
    print(flush=True)
    # MLX may abort in the interpreter's own exit once another thread has used it.
    os._exit(0)


if __name__ == "__main__":
    main()
