"""Our side of bench_parakeet_gpu.py: the network, the stepper, reading, the whole engine."""

import json
import subprocess
import threading
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from producer.job import Job, Options
from producer.settings import Settings
from tests.benchmarks.bench_engine_gpu import load_turbo, turbo_options
from worker.audio.voice_activity import VoiceActivity
from worker.device.backend import on_gpu, set_up_cuda
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Progress, Ticket
from worker.models.load import load_family

PIECE_S = 30
# Pieces that are encoded together while rows join: enough to fill the device.
JOINING = 32


def bench_ours(report, arguments, parts):
    """Run the parts that are ours."""
    set_up_cuda(mx.bfloat16)
    report["mlx"] = f"{mx.__version__}, {mx.device_info().get('device_name')}"
    if {"encoder", "device"} & set(parts):
        bench_network(report, arguments, with_rows="device" in parts)
        mx.clear_cache()
    if "reading" in parts:
        report["reading"] = bench_reading(arguments.audio)
        print(json.dumps(report["reading"]), flush=True)
    for family in ("parakeet", "whisper"):
        if family in parts:
            bench_engine(report, arguments, family)
            mx.clear_cache()


def bench_network(report, arguments, *, with_rows):
    """Time the encoder, and features in to tokens out, over the batches."""
    from tests.benchmarks.bench_parakeet_gpu import best_of, read_pieces

    # Imported here: Parakeet's backend turns CUDA graphs off, and Whisper's is to have them.
    from worker.models.parakeet.backend import make_network
    from worker.models.parakeet.buckets import bucket_of
    from worker.models.parakeet.weights.load import load_weights

    dtype = mx.bfloat16 if on_gpu() else mx.float32
    network = make_network(load_weights(str(arguments.model), dtype=dtype), dtype, "mlx")
    for batch in arguments.batches:
        pieces = read_pieces(arguments.audio, batch)
        num_frames = network.config.num_frames(len(pieces[0]))
        mel, num_mels = network.features(pieces, bucket_of(num_frames))
        mel = mel.astype(dtype)
        mx.eval(mel, num_mels)

        def encode(start=0, stop=None, mel=mel, num_mels=num_mels, frames=num_frames):
            return encoded(network, mel[start:stop], num_mels[start:stop], frames)

        seconds, _ = best_of(lambda encode=encode: mx.eval([each.states for each in encode()]))
        row = {"encoder": round(batch * PIECE_S / seconds)}
        if with_rows:

            def at_once(encode=encode, batch=batch):
                return drained(stepper_of(network, batch, encode()))

            seconds, found = best_of(at_once, 3)
            row["at_once"] = round(batch * PIECE_S / seconds)
            row["tokens_in_30_s"] = round(found / batch, 1)
            row["joining"] = round(joining(network, encode, batch, arguments.seconds / 3))
        report.setdefault("ours", {})[batch] = row
        print(json.dumps(report["ours"]), flush=True)
    report["ours_peak_gb"] = round(mx.get_peak_memory() / 1e9, 1)


def encoded(network, mel, num_mels, num_frames):
    """Start the encoder on features (B, 8 T, M) of one length."""
    from worker.models.parakeet.requests import Encoded

    subsampled = network.encoder.pre_encode(mel, num_mels)
    frames = network.encoder.pre_encode.num_frames(num_mels)
    states = network.transducer.enc(network.encoder(subsampled, frames))
    mx.async_eval(states)
    return [Encoded(row, num_frames) for row in states]


def stepper_of(network, slots, states):
    """Return a stepper that has rows for encoded pieces."""
    from worker.models.parakeet.tdt import TdtStepper

    stepper = TdtStepper(network, slots)
    add(stepper, 0, states)
    return stepper


def add(stepper, key, states):
    """Let encoded pieces join; return the key of the next."""
    from worker.models.parakeet.requests import Recognize

    for each in states:
        stepper.add(key, Recognize(each))
        key += 1
    return key


def drained(stepper):
    """Step until no row is left; return how many labels were found."""
    found = 0
    while stepper.num_wanted:
        found += sum(len(labels) for _, labels in stepper.step())
    return found


def joining(network, encode, slots, seconds):
    """Return times real time while rows join as others leave, encoded some at a time."""
    stepper, ended, key = stepper_of(network, slots, []), 0, 0
    some = min(JOINING, slots)
    warm_until = time.perf_counter() + seconds
    started = None
    while started is None or time.perf_counter() < started + seconds:
        if started is None and time.perf_counter() > warm_until:
            started, ended = time.perf_counter(), 0
        if stepper.num_wanted <= slots - some:
            start = key % (slots - some + 1)
            key = add(stepper, key, encode(start, start + some))
        ended += len(stepper.step())
    rate = ended * PIECE_S / (time.perf_counter() - started)
    stepper.reset()
    return rate


def bench_reading(folder):
    """Return how many seconds of audio a core reads a second; with listening, and without."""
    from worker.audio.recording import load_audio

    paths, figures = sorted(folder.glob("*.flac")), {}
    for what in ("read", "read and listen"):
        started, seconds = time.thread_time(), 0.0
        for path in paths:
            samples, _ = load_audio(str(path), max_seconds=3600.0)
            seconds += len(samples) / 16_000
            if what != "read":
                voices = VoiceActivity()
                voices.push(samples)
                voices.finish()
        figures[what] = round(seconds / (time.thread_time() - started))
    return {"times real time of one core": figures}


def bench_engine(report, arguments, family):
    """Time the whole engine from files to results, once for each number of reading threads."""
    paths = sorted(str(path) for path in arguments.audio.glob("*.flac"))
    for threads in arguments.threads:
        is_ours = family == "parakeet"
        slots = arguments.slots if is_ours else arguments.whisper_slots
        settings = Settings(
            worker={"slots": slots},
            audio={"threads": threads, "listen": not arguments.vad},
            model={"name": str(arguments.model)} if is_ours else {},
        )
        load, options = (load_family, Options()) if is_ours else (load_turbo, turbo_options())
        engine = BatchEngine(settings, load)
        plan = engine._family.plan
        row = steady(engine, paths, options, arguments)
        row["encoded_together_at_most"] = plan.batch_size
        engine.stop()
        row["what"] = f"{family}, {slots} slots, {threads} threads"
        report.setdefault("engine", []).append(row)
        print(json.dumps(row), flush=True)


class Recordings:
    """Keeps an engine full of the same files, and adds up the audio that it is done with."""

    def __init__(self, engine, paths, options):
        self.engine, self._paths, self._options = engine, paths, options
        self._next = self.num_done = 0
        self._done_s = {}
        self.audio_s = 0.0
        self.words = 0
        for _ in range(engine.capacity):
            self._submit()

    def _submit(self):
        key = str(self._next)
        source = self._paths[self._next % len(self._paths)]
        self.engine.submit(Ticket(key, key, Job(source=source, options=self._options)))
        self._next += 1

    def take(self, event):
        """Count an event; submit another recording where one has left."""
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Progress):
            self._count(event.execution_id, event.seconds_done)
        elif isinstance(event, Done):
            self._count(event.execution_id, event.transcript.audio.duration_s)
            del self._done_s[event.execution_id]
            self.num_done += 1
            self.words += len(event.transcript.text.split())
            self._submit()

    def _count(self, key, seconds):
        self.audio_s += max(0.0, seconds - self._done_s.get(key, 0.0))
        self._done_s[key] = max(seconds, self._done_s.get(key, 0.0))


def steady(engine, paths, options, arguments):
    """Return what the engine does in some seconds once it is warm, and where the time went."""
    recordings = Recordings(engine, paths, options)
    run_for(recordings, arguments.warm)
    audio_s, words, done = recordings.audio_s, recordings.words, recordings.num_done
    before, cores = engine.stats.figures(), cores_by_thread()
    with GpuWatch() as gpu:
        started = time.perf_counter()
        run_for(recordings, arguments.seconds)
        taken = time.perf_counter() - started
    after = cores_by_thread()
    return {
        "times_real_time": round((recordings.audio_s - audio_s) / taken),
        "recordings": recordings.num_done - done,
        "words_in_30_s": round(
            (recordings.words - words) / max(1.0, recordings.audio_s - audio_s) * 30, 1
        ),
        "gpu_busy_percent": gpu.busy_percent,
        "cores": {name: round((after[name] - cores[name]) / taken, 2) for name in after},
        "shares_of_the_engines_thread": {
            name: round((value - before[name]) / taken, 3)
            for name, value in engine.stats.figures().items()
            if name.endswith("_s")
        },
        "rows_a_step": round(
            (engine.stats.row_steps - before["row_steps"])
            / max(1, engine.stats.steps - before["steps"]),
            1,
        ),
        "requests_a_batch": round(
            (engine.stats.batched_requests - before["batched_requests"])
            / max(1, engine.stats.batches - before["batches"]),
            1,
        ),
        "peak_gb": round(mx.get_peak_memory() / 1e9, 1),
    }


def run_for(recordings, seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for event in recordings.engine.poll(0.05):
            recordings.take(event)


def cores_by_thread():
    """Return seconds of processor so far: of the reading threads, the engine's, all others."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    seconds = {"reading": 0.0, "engine": 0.0, "others": 0.0}
    for task in Path("/proc/self/task").iterdir():
        try:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has just ended
            continue
        name = known.get(int(task.name), "")
        kind = {"audio": "reading", "engine": "engine"}.get(name, "others")
        seconds[kind] += (int(fields[11]) + int(fields[12])) / 100
    return dict(seconds)


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
