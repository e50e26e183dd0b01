"""Does memory stay flat while hours and short files go through a full engine?

    python -m tests.benchmarks.gpu.memory [--slots 192] [--seconds 60] [--recordings FOLDER]

Files of 2 to 12 s that sample 8 to 200 tokens, so that lengths and shapes vary, and an hour among
them, again and again. Tells the highest memory of each tenth of the time: MLX's in use and kept for
reuse, the process's, the GPU's by nvidia-smi.
"""

import random
import subprocess
import threading
import time

import mlx.core as mx
import numpy as np
import psutil
import soundfile

from producer.job import Job
from tests.benchmarks.gpu.files import engine_parser, engine_settings
from tests.benchmarks.gpu.ours import every_window_alike, write_model
from tests.benchmarks.gpu.shapes import RATE_HZ, leave, tell
from tests.benchmarks.gpu.speech import joined
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Ticket
from worker.models.load import load_family

SHORT_S = (2, 12)
TOKENS = (8, 200)
NUM_SHORT = 200
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


class Memory(threading.Thread):
    """Samples the memory of MLX, of the process and of the GPU, in MB, from its start on."""

    def __init__(self):
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._process = psutil.Process()
        self.samples = []

    def run(self):
        began = time.perf_counter()
        while not self._ended.wait(SAMPLE_EVERY_S):
            mlx = mx.get_active_memory() + mx.get_cache_memory()
            sizes = mx.get_active_memory(), mlx, self._process.memory_info().rss
            megabytes = [round(size / 1e6) for size in sizes]
            self.samples.append((time.perf_counter() - began, [*megabytes, gpu_megabytes()]))

    def stop(self):
        """Return the highest sizes of each tenth of the time."""
        self._ended.set()
        self.join()
        last = self.samples[-1][0]
        spans = [[] for _ in range(NUM_SPANS)]
        for at, sizes in self.samples:
            spans[min(NUM_SPANS - 1, int(NUM_SPANS * at / last))].append(sizes)
        return [list(map(max, zip(*span, strict=True))) for span in spans if span]


def gpu_megabytes():
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        return int(subprocess.run(command, capture_output=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError):
        return 0


class Submitted:
    """Keeps an engine full: the hour, and when it is done again; short files besides."""

    def __init__(self, engine, hour, short, shapes, chosen):
        self._engine, self._hour, self._short, self._chosen = engine, hour, short, chosen
        self._options = every_window_alike(shapes)
        self._next, self.hours, self.files = 0, 0, 0
        self._submit(hour)
        for _ in range(engine.capacity - 1):
            self._submit(chosen.choice(short))

    def _submit(self, path):
        tokens = self._chosen.randint(*TOKENS)
        options = self._options.model_copy(update={"sample_len": tokens})
        key = f"{path.stem} {self._next}"
        self._engine.submit(Ticket(key, key, Job(source=str(path), options=options)))
        self._next += 1

    def run_for(self, seconds):
        """Let the engine work for some seconds."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for event in self._engine.poll(0.05):
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Done):
                    is_hour = event.execution_id.startswith(self._hour.stem)
                    self.hours += is_hour
                    self.files += not is_hour
                    self._submit(self._hour if is_hour else self._chosen.choice(self._short))


def main():
    flags = engine_parser(__doc__)
    flags.set_defaults(seconds=60, warm=5)
    arguments = flags.parse_args()
    write_model(arguments.model, arguments.shapes)
    chosen, folder = random.Random(0), arguments.recordings.parent / "memory"
    hour, short = write_files(arguments.recordings, folder, HOUR_S[arguments.shapes], chosen)
    engine = BatchEngine(engine_settings(arguments), load_family)
    submitted = Submitted(engine, hour, short, arguments.shapes, chosen)
    submitted.run_for(arguments.warm)
    memory = Memory()
    memory.start()
    submitted.run_for(arguments.seconds)
    spans = memory.stop()
    tell(
        {
            "hours": submitted.hours,
            "short_files": submitted.files,
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
