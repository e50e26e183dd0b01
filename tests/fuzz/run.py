"""Fuzz the capped pipeline: every damaged recording ends as samples or as a typed error.

    python tests/fuzz/run.py [--mutations 20000] [--seed 1] [--processes 2]
    python tests/fuzz/run.py --seed 1 --case 4711          one case, in this process

Cases run in child processes, so that a crash inside a native library is seen, counted and does
not end the run. Exits 1 if any case crashed, hung, raised anything untyped, returned samples that
a model must not see, or if memory or file descriptors grew. Failing inputs are saved.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import psutil
from mutations import corpus, mutate

from producer.errors import ScribefarmError
from worker.audio.recording import RESAMPLERS, SAMPLE_RATE_HZ, open_recording

# Processor time: another program on the machine is no hang.
MAX_CPU_S = 2.0
# Wall time after which a silent child is killed and its case counts as a hang.
MAX_SILENCE_S = 30.0
# Caches of the libraries fill during the first cases; from then on memory must be flat.
WARM_UP_CASES = 300
MAX_GROWTH_BYTES = 24 * 2**20
# No damaged header may make one load allocate more than this above a warm process.
MAX_PEAK_BYTES = 512 * 2**20
FAILURES = ("CRASH", "HANG", "UNTYPED", "BAD SAMPLES", "GROWTH")


def run_case(seed: int, case: int, files: list[tuple[str, bytes]], folder: Path) -> str:
    """Return the outcome of one case: "samples", an error code, or a failure with its reason."""
    _, _, content = mutate(seed, case, files)
    path = folder / "recording"
    path.write_bytes(content)
    rng = random.Random(f"{seed}:{case}:options")
    max_seconds = rng.choice((0.05, 1.0, 30.0, 30.0))
    started = time.process_time()
    try:
        recording = open_recording(
            path,
            max_seconds=max_seconds,
            auto_resample=rng.random() < 0.95,
            resampler=rng.choice(RESAMPLERS),
            is_salvaged=rng.random() < 0.4,
            channels=rng.choice(("mix", "mix", "split", 1)),
        )
        samples = np.concatenate(list(recording))
        outcome = "samples" if _is_ready(samples, max_seconds) else f"BAD SAMPLES {samples[:3]}"
    except ScribefarmError as error:
        outcome = error.code
    except Exception:
        outcome = f"UNTYPED {traceback.format_exc(limit=-3)!r}"
    cpu_s = time.process_time() - started
    return outcome if cpu_s < MAX_CPU_S else f"HANG {cpu_s:.1f} s ({outcome})"


def _is_ready(samples: np.ndarray, max_seconds: float) -> bool:
    # The resampler may round up by one sample.
    return (
        samples.dtype == np.float32
        and 1 <= samples.ndim <= 2
        and 0 < len(samples) <= max_seconds * SAMPLE_RATE_HZ + 1
        and bool(np.isfinite(samples).all())
    )


def held_bytes(process: psutil.Process) -> int:
    """Return resident memory without what the allocator merely keeps for later (glibc)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return process.memory_info().rss


def child(seed: int, start: int, stop: int, step: int) -> None:
    """Run cases and print "case<TAB>outcome", then one line on memory and descriptors."""
    faulthandler.enable()
    files = corpus()
    process = psutil.Process()
    warm_bytes = warm_files = peak_bytes = 0
    print("ready", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for count, case in enumerate(range(start, stop, step)):
            outcome = run_case(seed, case, files, Path(folder))
            rss_bytes = process.memory_info().rss
            if count == WARM_UP_CASES:
                warm_bytes, warm_files = held_bytes(process), process.num_fds()
            peak_bytes = max(peak_bytes, rss_bytes)
            print(f"{case}\t{outcome}", flush=True)
    if warm_bytes:
        grown_bytes = held_bytes(process) - warm_bytes
        grown_files = process.num_fds() - warm_files
        print(f"memory\t{grown_bytes}\t{peak_bytes}\t{grown_files}", flush=True)


class Run:
    """All the cases of one child process slot; a child that dies is replaced behind its case."""

    def __init__(self, seed: int, start: int, stop: int, step: int) -> None:
        self.seed, self.next, self.stop, self.step = seed, start, stop, step
        self.outcomes: dict[int, str] = {}
        self.memory: list[tuple[int, int, int]] = []
        self.is_ready = False

    def finish(self) -> "Run":
        while self.next < self.stop:
            self._run_child()
        return self

    def _run_child(self) -> None:
        bounds = [str(number) for number in (self.seed, self.next, self.stop, self.step)]
        command = [sys.executable, __file__, "--child", *bounds]
        self.is_ready = False
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
                is_silent = self._read(process)
                if is_silent:
                    process.kill()
            if process.returncode == 0:
                return
            errors.seek(0)
            last_words = errors.read()[-400:].decode(errors="replace")
        if not self.is_ready:
            raise RuntimeError(f"the child did not start: {last_words}")
        kind = "HANG" if is_silent else "CRASH"
        self.outcomes[self.next] = f"{kind} exit {process.returncode} {last_words!r}"
        self.next += self.step

    def _read(self, process: subprocess.Popen[bytes]) -> bool:
        """Take lines until the child ends; True if it fell silent instead."""
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        selector = selectors.DefaultSelector()
        selector.register(process.stdout, selectors.EVENT_READ)
        waiting = b""
        while selector.select(MAX_SILENCE_S):
            received = os.read(process.stdout.fileno(), 65536)
            if not received:
                return False
            *lines, waiting = (waiting + received).split(b"\n")
            for line in lines:
                self._take(line.decode())
        return True

    def _take(self, line: str) -> None:
        key, _, rest = line.partition("\t")
        if key == "ready":
            self.is_ready = True
        elif key == "memory":
            grown_bytes, peak_bytes, grown_files = (int(part) for part in rest.split("\t"))
            self.memory.append((grown_bytes, peak_bytes, grown_files))
        elif key.isdigit():  # libsndfile prints, too
            self.outcomes[int(key)] = rest
            self.next = int(key) + self.step


def report(seed: int, runs: list[Run], elapsed_s: float) -> int:
    """Print the table of outcomes, save what failed, and return the exit code."""
    outcomes = {case: outcome for run in runs for case, outcome in run.outcomes.items()}
    memory = [reading for run in runs for reading in run.memory]
    failures = {case: outcome for case, outcome in outcomes.items() if outcome.startswith(FAILURES)}
    counts = collections.Counter(
        outcome.split()[0] if case in failures else outcome for case, outcome in outcomes.items()
    )
    print(f"{len(outcomes)} mutations of {len(corpus())} files, seed {seed}, {elapsed_s:.0f} s")
    for outcome, count in counts.most_common():
        print(f"  {outcome:20} {count:7}  {100 * count / len(outcomes):5.1f} %")
    for grown_bytes, peak_bytes, grown_files in memory:
        print(
            f"  memory: grew {grown_bytes / 2**20:+.1f} MiB after warm-up, peak "
            f"{peak_bytes / 2**20:.0f} MiB; descriptors {grown_files:+d}"
        )
    _save(seed, failures)
    is_flat = all(
        grown_bytes < MAX_GROWTH_BYTES and peak_bytes < MAX_PEAK_BYTES and grown_files <= 0
        for grown_bytes, peak_bytes, grown_files in memory
    )
    print("every case ended typed" if not failures else f"{len(failures)} FAILED", end="; ")
    print("memory flat" if is_flat else "MEMORY OR DESCRIPTORS GREW")
    return 0 if is_flat and not failures else 1


def _save(seed: int, failures: dict[int, str]) -> None:
    if not failures:
        return
    folder = Path(tempfile.mkdtemp(prefix="scribefarm-fuzz-"))
    files = corpus()
    for case, outcome in sorted(failures.items()):
        name, mutators, content = mutate(seed, case, files)
        saved = folder / f"seed{seed}-case{case}"
        saved.write_bytes(content)
        print(f"  {saved}: {name}, {mutators}: {outcome}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--case", type=int, help="run one case here and print its outcome")
    parser.add_argument("--child", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return 0
    if options.case is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(run_case(options.seed, options.case, corpus(), Path(folder)))
        return 0
    started = time.monotonic()
    runs = [
        Run(options.seed, first, options.mutations, options.processes)
        for first in range(options.processes)
    ]
    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        finished = list(pool.map(Run.finish, runs))
    return report(options.seed, finished, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main())
