"""How much sound reaches an engine whose device is far faster than this machine's, and what stops it.

    python -m tests.benchmarks.bench_feed [--python-ms 1.0] [--launch-ms 1.5] [--seconds 8]
        [--ways threads=1,threads=8,processes=1,processes=2] [FOLDER]

The device is played: a step holds Python's lock for a while, as MLX's graph is built, then computes
without it, as kernels are launched. Windows are decoded in so many steps, and no text comes of it; the
engine, its reading and its listening are the real ones. FOLDER has FLAC files of 16 kHz; by default they
are made of the shared archive's. Prints, for each way to read, windows of 30 s a second, cores in
use, and what became of the step.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from producer.job import Options
from producer.result import Model
from producer.settings import Settings
from tests.benchmarks.gpu.engine_run import steady
from tests.benchmarks.gpu.speech import write_recordings
from tests.benchmarks.run import SHARED_DATA
from worker.audio.blas import keep_blas_to_its_caller
from worker.engine.engine import BatchEngine
from worker.engine.family import Counts
from worker.engine.memory_plan import MemoryNeeds, MemoryPlan
from worker.engine.requests import Rows, ask

SLOTS, BATCH = 192, 64
STEPS = 70
WARM_S = 4
WINDOW_SAMPLES = 480_000
RECORDINGS = 24
ZEROS = bytes(1 << 20)


class LockedThenBusy:
    """A step's work: milliseconds with Python's lock, then milliseconds without it."""

    def __init__(self, python_ms, launch_ms):
        self._python_s, self._launch_s = python_ms / 1e3, launch_ms / 1e3
        started = time.thread_time()
        for _ in range(20):
            hashlib.sha256(ZEROS).digest()
        self._bytes_per_s = 20 * len(ZEROS) / (time.thread_time() - started)

    def __call__(self):
        until = time.thread_time() + self._python_s
        while time.thread_time() < until:
            pass
        left = int(self._launch_s * self._bytes_per_s)
        while left > 0:
            hashlib.sha256(ZEROS[:left]).digest()
            left -= len(ZEROS)


class PlayedStepper:
    """A `worker.engine.family.Stepper` whose rows end after `STEPS`."""

    num_slots, wait_s = SLOTS, 0.0

    def __init__(self, work):
        self._work, self._left, self._waiting = work, {}, []

    @property
    def num_active(self):
        return len(self._left)

    @property
    def num_wanted(self):
        return len(self._left) + len(self._waiting)

    def add(self, key, _request):
        self._waiting.append(key)

    def step(self):
        while self._waiting and len(self._left) < SLOTS:
            self._left[self._waiting.pop()] = STEPS
        self._work()
        self._left = {key: left - 1 for key, left in self._left.items()}
        ended = [key for key, left in self._left.items() if left == 0]
        for key in ended:
            del self._left[key]
        return [(key, None) for key in ended]

    def drop(self, key):
        self._left.pop(key, None)


class PlayedFeatures:
    num_samples = 0

    def push(self, samples):
        self.num_samples += len(samples)

    def finish(self):
        pass


class PlayedTranscription:
    text, language, language_probability, seconds_done = "", "en", None, 0.0

    def __init__(self):
        self.segments, self.flags, self.counts = [], [], Counts()

    def requests(self, features, _speech):
        while self.counts.windows * WINDOW_SAMPLES < features.num_samples:
            yield from ask(Rows())
            self.counts.windows += 1


class PlayedFamily:
    """A `worker.engine.family.Family` without a model."""

    name, num_vocab, needs, computations = "played", 0, MemoryNeeds(0, 0, 0), {}
    model = Model(name="played", revision="0", dtype="float32")

    def __init__(self, work):
        keep_blas_to_its_caller()  # as whatever opens a model does
        self.stepper, self.plan = PlayedStepper(work), MemoryPlan(1, self.needs, SLOTS, BATCH)

    def check(self, _options):
        pass

    def features(self):
        return PlayedFeatures()

    def transcription(self, _options, _checkpoint):
        return PlayedTranscription()

    def peak_memory_bytes(self):
        return 0


def measured(way, folder, arguments):
    """Return the figures of one way to read; it takes its own process, whose threads it leaves."""
    name, _, count = way.partition("=")
    work = LockedThenBusy(arguments.python_ms, arguments.launch_ms)
    settings = Settings(audio={"processes": 0, name: int(count)})
    engine = BatchEngine(settings, lambda _: PlayedFamily(work))
    figures, _ = steady(engine, sorted(folder.glob("*.flac")), Options(), WARM_S, arguments.seconds)
    return {"way": way} | {name: figures[name] for name in ("windows_per_s", "cores", "step_ms")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--ways", default="threads=1,threads=8,processes=1,processes=2")
    parser.add_argument("--python-ms", type=float, default=1.0)
    parser.add_argument("--launch-ms", type=float, default=1.5)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    if arguments.folder is not None and "," not in arguments.ways:
        print(json.dumps(measured(arguments.ways, arguments.folder, arguments)), flush=True)
        os._exit(0)
    with tempfile.TemporaryDirectory() as own:
        folder = arguments.folder or Path(own)
        if arguments.folder is None:
            write_recordings(SHARED_DATA / "audio" / "english", folder, RECORDINGS)
        step = (f"--python-ms={arguments.python_ms}", f"--launch-ms={arguments.launch_ms}")
        asked = (*step, f"--seconds={arguments.seconds}", str(folder))
        for way in arguments.ways.split(","):
            command = (sys.executable, "-m", "tests.benchmarks.bench_feed", f"--ways={way}", *asked)
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
