"""The hour together with 50 short files: are the short ones starved, and does memory stay flat?

    python tests/benchmarks/bench_long_and_short.py [--model base] [--minutes 60] [--short 50]

The hour comes first and the short files (2 to 12 s, cut from English speech) right behind it, as
one submission. Shown are latencies of the short ones, from the submission and from their turn in
the engine, and memory each minute. Exits 1 if the last minute's memory is more than 5 % above the
first minute's, MLX's or the process's, at their highest.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

SHARED_AUDIO = Path(__file__).resolve().parents[3] / "shared" / "data" / "audio"
HOUR = SHARED_AUDIO / "long" / "kerstin-60min.opus"
SAMPLE_EVERY_S = 0.25
MAX_GROWTH = 1.05
MINUTE_S = 60.0


def cut_short_files(folder, count):
    """Write pieces of English speech, 2 to 12 s, always the same ones."""
    generator = np.random.default_rng(0)
    sources = [
        soundfile.read(path, dtype="int16")
        for path in sorted((SHARED_AUDIO / "english").glob("libri*"))
    ]
    paths = []
    for number in range(count):
        samples, rate_hz = sources[number % len(sources)]
        size = int(generator.uniform(2, 12) * rate_hz)
        start = int(generator.uniform(0, len(samples) - size))
        paths.append(folder / f"short-{number:02}.wav")
        soundfile.write(paths[-1], samples[start : start + size], rate_hz)
    return paths


def cut_hour(folder, minutes):
    """Return the hour, or the start of it as a file of its own."""
    if minutes >= 60:
        return HOUR
    from worker.audio.recording import SAMPLE_RATE_HZ, open_recording

    path = folder / "long.flac"
    wanted = int(minutes * MINUTE_S * SAMPLE_RATE_HZ)
    recording = open_recording(str(HOUR), max_seconds=2 * 3600.0, target_rate_hz=SAMPLE_RATE_HZ)
    with recording, soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1) as file:
        for block in recording:
            file.write(block[: wanted - file.frames])
            if file.frames >= wanted:
                break
    return path


def percentiles(seconds):
    ordered = sorted(seconds)
    return {
        "median_s": statistics.median(ordered),
        "p95_s": ordered[max(0, round(0.95 * len(ordered)) - 1)],
        "max_s": ordered[-1],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--short", type=int, default=50)
    arguments = parser.parse_args()
    if not HOUR.exists():
        sys.exit(f"needs {HOUR}")

    import mlx.core as mx

    from producer.settings import load_settings
    from tests.benchmarks.memory_log import MemoryLog
    from worker.cli.machine import blas_library, machine, versions
    from worker.cli.measure import Workbench
    from worker.engine.messages import Done

    settings = load_settings(model={"name": arguments.model})
    finished = {}
    with tempfile.TemporaryDirectory() as name, Workbench(settings) as bench:
        folder = Path(name)
        sources = [cut_hour(folder, arguments.minutes), *cut_short_files(folder, arguments.short)]
        process = psutil.Process()

        def sizes():
            mlx = mx.get_active_memory() + mx.get_cache_memory()
            return mlx, process.memory_info().rss

        memory = MemoryLog(sizes, SAMPLE_EVERY_S)
        memory.start()
        started = time.perf_counter()

        def note(event):
            if isinstance(event, Done):
                finished[int(event.execution_id)] = time.perf_counter() - started

        # As users run it: fallback included, so that rows, prompts and shapes vary.
        measured = bench.run(sources, settings.options, on_event=note)
        memory.stop()
    minutes = memory.by_span(MINUTE_S)
    growth = [last / first for first, last in zip(minutes[0], minutes[-1], strict=True)]
    report = {
        "machine": machine() | {"blas": blas_library(settings)},
        "versions": versions(),
        "model": arguments.model,
        "long_minutes": arguments.minutes,
        "num_short": arguments.short,
        "seconds": measured.wall_s,
        "audio_s_per_s": measured.audio_s_per_s,
        "long_done_s": finished[0],
        "short_from_submission": percentiles(s for number, s in finished.items() if number),
        "short_from_turn": percentiles(s for number, s in measured.latencies_s.items() if number),
        "memory_mb_by_minute": [[round(size / 1e6) for size in each] for each in minutes],
        "growth_mlx_and_resident": growth,
        "failures": measured.failures,
    }
    print(json.dumps(report, indent=1), flush=True)
    flat = max(growth) <= MAX_GROWTH and len(minutes) > 1
    print("memory flat" if flat else "MEMORY GREW, or it lasted under a minute", file=sys.stderr)
    # MLX may abort in the interpreter's own exit once another thread has used it.
    os._exit(0 if flat and not measured.failures else 1)


if __name__ == "__main__":
    main()
