"""The whole engine kept full of the same recordings, and where its time went."""

import multiprocessing
import subprocess
import threading
import time
from itertools import cycle
from pathlib import Path

import mlx.core as mx
import numpy as np

from producer.job import Job
from worker.engine.messages import Done, Failed, Progress, Ticket

HZ = 100  # the kernel's ticks in /proc


class Recordings:
    """Keeps an engine full, and adds up what it is done with.

    Args:
        engine: Idle.
        jobs: An iterator without an end.

    Attributes:
        audio_s: Audio seconds that need not be looked at again.
        windows: That were decoded, whole recordings at a time.
        ends: Time (perf_counter) and windows of each recording that is done.
    """

    def __init__(self, engine, jobs):
        self.engine, self._jobs = engine, enumerate(jobs)
        self._done_s = {}
        self.audio_s = 0.0
        self.words = 0
        self.ends = []
        for _ in range(engine.capacity):
            self._submit()

    def _submit(self):
        number, job = next(self._jobs)
        self.engine.submit(Ticket(str(number), str(number), job))

    def take(self, event):
        """Count an event; submit another recording where one has left."""
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Progress):
            self._count(event.execution_id, event.seconds_done)
        elif isinstance(event, Done):
            transcript = event.transcript
            self._count(event.execution_id, transcript.audio.duration_s)
            del self._done_s[event.execution_id]
            self.ends.append((time.perf_counter(), transcript.timing.windows))
            self.words += len(transcript.text.split())
            self._submit()

    def _count(self, key, seconds):
        self.audio_s += max(0.0, seconds - self._done_s.get(key, 0.0))
        self._done_s[key] = max(seconds, self._done_s.get(key, 0.0))

    def run_for(self, seconds):
        """Let the engine work for some seconds."""
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for event in self.engine.poll(0.05):
                self.take(event)


def windows_per_s(ends):
    """Return windows a second between the first and the last of some ends, (time, windows) each."""
    if len(ends) < 2:
        return float("nan")
    return sum(windows for _, windows in ends[1:]) / (ends[-1][0] - ends[0][0])


def steady(engine, paths, options, warm_s, seconds):
    """Return what the engine does in some seconds once it is warm, where the time went, and its recordings."""
    recordings = Recordings(
        engine, (Job(source=str(path), options=options) for path in cycle(paths))
    )
    recordings.run_for(warm_s)
    audio_s, words, first_end = recordings.audio_s, recordings.words, len(recordings.ends)
    before, cores = engine.stats.figures(), cores_by_thread()
    with GpuWatch() as gpu:
        started = time.perf_counter()
        recordings.run_for(seconds)
        taken = time.perf_counter() - started
    after, spent = cores_by_thread(), engine.stats.figures()
    spent = {name: value - before[name] for name, value in spent.items()}
    heard_s = recordings.audio_s - audio_s
    held = list(engine._schedule.tracks.values())
    ends = recordings.ends[first_end:]
    figures = {
        "audio_times_real_time": round(heard_s / taken),
        "windows_per_s": round(windows_per_s(ends), 2),
        "encoded_windows_per_s": round(spent["batched_requests"] / taken, 2),
        "recordings": len(ends),
        "still_read": sum(track.requests is None for track in held),
        "words_in_30_s": round((recordings.words - words) / max(1.0, heard_s) * 30, 1),
        "gpu_busy_percent": gpu.busy_percent,
        "cores": {name: round((after[name] - cores[name]) / taken, 2) for name in after},
        "shares_of_the_engines_thread": {
            name: round(value / taken, 3) for name, value in spent.items() if name.endswith("_s")
        },
        "step_ms": round(1e3 * spent["step_s"] / max(1, spent["steps"]), 3),
        "row_steps_per_s": round(spent["row_steps"] / taken),
        "rows_a_step": round(spent["row_steps"] / max(1, spent["steps"]), 1),
        "requests_a_batch": round(spent["batched_requests"] / max(1, spent["batches"]), 1),
        "peak_gb": round(mx.get_peak_memory() / 1e9, 1),
    }
    return figures, recordings


def traced(recordings, seconds):
    """Return what the device does in some seconds more; {} if none are asked for.

    To be told behind all else: CUPTI has ended a process now and then.
    """
    if not seconds:
        return {}
    # Imported here: it needs torch.
    from tests.benchmarks.gpu.trace import trace

    return {"trace": trace(recordings, seconds)}


def cores_by_thread():
    """Return seconds of processor so far: of threads, by what they do, and of processes that read."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    seconds = {"reading": 0.0, "engine": 0.0, "others": 0.0, "processes": 0.0}
    for task in Path("/proc/self/task").iterdir():
        name = known.get(int(task.name), "")
        kind = {"audio": "reading", "engine": "engine"}.get(name, "others")
        seconds[kind] += cpu_s(task)
    for child in multiprocessing.active_children():
        seconds["processes"] += cpu_s(Path(f"/proc/{child.pid}"))
    return seconds


def cpu_s(folder):
    """Return seconds of processor of a thread or process by its folder in /proc; 0 if it has ended."""
    try:
        fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / HZ


class GpuWatch:
    """Samples how busy the GPU is, by nvidia-smi, while its block runs.

    Attributes:
        busy_percent: Share of the time with a kernel running; None without the program.
    """

    busy_percent = None

    def __enter__(self):
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        try:
            self._watch = subprocess.Popen([*command, "-lms", "250"], stdout=subprocess.PIPE)
        except OSError:
            self._watch = None
        return self

    def __exit__(self, *_exception):
        if self._watch is None:
            return
        self._watch.terminate()
        read = [int(line) for line in self._watch.communicate()[0].split() if line.isdigit()]
        self.busy_percent = round(float(np.mean(read))) if read else None
