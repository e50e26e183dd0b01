"""Our side of bench_parakeet_gpu.py: the network, the stepper, reading, the whole engine."""

import json
import time

import mlx.core as mx

from producer.job import Options
from producer.settings import Settings
from tests.benchmarks.gpu.engine_run import steady, traced
from worker.audio.voice_activity import VoiceActivity
from worker.device.backend import on_gpu, set_up_cuda
from worker.engine.engine import BatchEngine
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
        print(json.dumps({"reading": report["reading"]}), flush=True)
    if "parakeet" in parts:
        bench_engine(report, arguments)


def bench_network(report, arguments, *, with_rows):
    """Time the encoder, and features in to tokens out, over the batches."""
    from tests.benchmarks.bench_parakeet_gpu import best_of, read_pieces
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
        print(json.dumps({"ours": report["ours"]}), flush=True)
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


def bench_engine(report, arguments):
    """Time the whole engine from files to results, once for each number of reading processes."""
    paths = sorted(str(path) for path in arguments.audio.glob("*.flac"))
    for processes in arguments.processes:
        settings = Settings(
            worker={"slots": arguments.slots, "memory_limit_bytes": arguments.memory_bytes},
            audio={"processes": processes, "listen": not arguments.vad},
            model={"name": str(arguments.model)},
        )
        started = time.perf_counter()
        engine = BatchEngine(settings, load_family)
        row = {
            "slots": arguments.slots,
            "processes": processes,
            "loaded_s": round(time.perf_counter() - started, 1),
            "encoded_together_at_most": engine._family.plan.batch_size,
        }
        times = arguments.warm, arguments.seconds
        figures, recordings = steady(engine, paths, Options(), *times)
        report.setdefault("engine", []).append(row | figures)
        print(json.dumps({"engine": report["engine"]}), flush=True)
        report["engine"][-1] |= traced(recordings, arguments.traced)
        print(json.dumps({"engine": report["engine"]}), flush=True)
        engine.stop()
