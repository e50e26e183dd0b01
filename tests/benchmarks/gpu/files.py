"""Ours from files to results: the whole engine, and where its time went.

    python -m tests.benchmarks.gpu.files [--slots 192] [--processes 12] [--recordings FOLDER] [--traced 1]

`--traced` adds what the device did in some seconds more; see trace.py.
"""

import time

from producer.settings import Settings
from tests.benchmarks.gpu.engine_run import steady, traced
from tests.benchmarks.gpu.ours import every_window_alike, write_model
from tests.benchmarks.gpu.shapes import WINDOW_S, leave, parser, tell
from worker.engine.engine import BatchEngine
from worker.models.load import load_family


def engine_settings(arguments, **sections):
    """Return the settings of both rows with an engine: from files, and through Redis."""
    return Settings(
        model={"name": str(arguments.model)},
        worker={"slots": arguments.slots, "memory_limit_bytes": arguments.memory_bytes},
        audio={"threads": arguments.threads, "processes": arguments.processes},
        **sections,
    )


def engine_parser(doc):
    flags = parser(doc)
    flags.add_argument("--slots", type=int, default=192)
    flags.add_argument("--threads", type=int, default=8, help="that read recordings")
    flags.add_argument("--processes", type=int, default=12, help="in their place; 0: threads")
    flags.add_argument("--traced", type=float, default=0, help="seconds")
    flags.add_argument("--memory-bytes", type=int, help="of the device, for another beside it")
    return flags


def main():
    arguments = engine_parser(__doc__).parse_args()
    write_model(arguments.model, arguments.shapes)
    paths = sorted(arguments.recordings.glob("*.flac"))
    started = time.perf_counter()
    engine = BatchEngine(engine_settings(arguments), load_family)
    tell(
        {
            "slots": arguments.slots,
            "threads": arguments.threads,
            "processes": arguments.processes,
            "capacity": engine.capacity,
            "loaded_s": round(time.perf_counter() - started, 1),
        }
    )
    options = every_window_alike(arguments.shapes)
    figures, recordings = steady(engine, paths, options, arguments.warm, arguments.seconds)
    tell(figures)
    # Not a number where fewer than two recordings ended: a short run, to compile kernels.
    if figures["windows_per_s"] > 0:
        tell({"times_real_time": round(figures["windows_per_s"] * WINDOW_S)})
    tell(traced(recordings, arguments.traced))
    engine.stop()
    leave()


if __name__ == "__main__":
    main()
