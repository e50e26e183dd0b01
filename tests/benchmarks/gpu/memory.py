"""Does memory stay flat while hours and short files go through a full engine?

    python -m tests.benchmarks.gpu.memory [--slots 192] [--seconds 60] [--recordings FOLDER]

Files of 2 to 12 s that sample 8 to 200 tokens, so that lengths and shapes vary, and an hour now
and then among them. Tells the highest memory of each tenth of the time: MLX's in use and kept for
reuse, the process's, the GPU's by nvidia-smi.
"""

import random
import subprocess
from itertools import count

import mlx.core as mx
import numpy as np
import psutil
import soundfile

from producer.job import Job
from tests.benchmarks.gpu.engine_run import Recordings
from tests.benchmarks.gpu.files import engine_parser, engine_settings
from tests.benchmarks.gpu.ours import every_window_alike, write_model
from tests.benchmarks.gpu.shapes import RATE_HZ, leave, tell
from tests.benchmarks.gpu.speech import joined
from tests.benchmarks.memory_log import MemoryLog
from worker.engine.engine import BatchEngine
from worker.models.load import load_family

SHORT_S = (2, 12)
TOKENS = (8, 200)
NUM_SHORT = 200
HOUR_EVERY = 1000
NUM_SPANS = 10
SAMPLE_EVERY_S = 0.5
HOUR_S = {"turbo": 3600, "tiny": 120}


def write_files(recordings, folder, hour_s, chosen):
    """Write an hour and short files of real speech; return their paths, the hour first."""
    samples = joined(recordings)
    folder.mkdir(parents=True, exist_ok=True)
    hour = folder / "hour.flac"
    soundfile.write(hour, np.resize(samples, hour_s * RATE_HZ), RATE_HZ, subtype="PCM_16")
    short = []
    for number in range(NUM_SHORT):
        size = int(chosen.uniform(*SHORT_S) * RATE_HZ)
        start = chosen.randrange(len(samples) - size)
        short.append(folder / f"short-{number:03}.flac")
        soundfile.write(short[-1], samples[start : start + size], RATE_HZ, subtype="PCM_16")
    return hour, short


def megabytes():
    """Return MLX's memory in use, that with what is kept for reuse, the process's, the GPU's."""
    mlx = mx.get_active_memory() + mx.get_cache_memory()
    sizes = mx.get_active_memory(), mlx, psutil.Process().memory_info().rss
    return [*(round(size / 1e6) for size in sizes), gpu_megabytes()]


def gpu_megabytes():
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(command, capture_output=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError):
        return 0


def jobs_of(hour, short, shapes, chosen):
    """Yield a job for the hour now and then, and for short files, of various numbers of tokens."""
    options = every_window_alike(shapes)
    for number in count():
        path = chosen.choice(short) if number % HOUR_EVERY else hour
        tokens = chosen.randint(*TOKENS)
        yield Job(source=str(path), options=options.model_copy(update={"sample_len": tokens}))


def main():
    flags = engine_parser(__doc__)
    flags.set_defaults(seconds=60, warm=5)
    arguments = flags.parse_args()
    write_model(arguments.model, arguments.shapes)
    chosen, folder = random.Random(0), arguments.recordings.parent / "memory"
    hour, short = write_files(arguments.recordings, folder, HOUR_S[arguments.shapes], chosen)
    engine = BatchEngine(engine_settings(arguments), load_family)
    recordings = Recordings(engine, jobs_of(hour, short, arguments.shapes, chosen))
    recordings.run_for(arguments.warm)
    log = MemoryLog(megabytes, SAMPLE_EVERY_S)
    log.start()
    recordings.run_for(arguments.seconds)
    log.stop()
    spans = log.by_span(arguments.seconds / NUM_SPANS)[:NUM_SPANS]
    windows = [each for _, each in recordings.ends]
    tell(
        {
            "hours": sum(each > 1 for each in windows),
            "short_files": windows.count(1),
            "megabytes_in_use_mlx_process_gpu": spans,
            "last_to_first": [
                round(last / max(1, first), 3)
                for first, last in zip(spans[0], spans[-1], strict=True)
            ],
        }
    )
    engine.stop()
    leave()


if __name__ == "__main__":
    main()
