"""Parakeet on this machine's CPU beside parakeet-mlx and mlx-audio: same weights, same pieces.

    PEERS_PYTHON=.../python python -m tests.benchmarks.bench_parakeet_cpu [--seconds 10] [--batch 16]
        [--layers 17] [--rounds 2]

Random float32 weights of parakeet-tdt_ctc-110m's width, tuned to about 126 tokens in 30 s, in the
layout that the peers read; pieces of equal length of real speech, since the peers mask no padding.
PEERS_PYTHON has both peers (PyPI) and `mlx[cpu]`; they get OpenBLAS in place of the slow BLAS of
MLX's wheel. Each engine runs in a process of its own, in turn, `--rounds` times; its best counts. What
is timed goes from samples to tokens, model loaded and warm. The features of each are held against
the formula in float64.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OPENBLAS = Path("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0")
PEERS = ("parakeet-mlx", "mlx-audio")
OURS = ("numpy", "mlx")
RATE_HZ = 16_000
TOKENS_IN_30_S = 126
TUNING_ROUNDS = 8


def model_config(layers):
    """Return Hugging Face's configuration of a transducer as wide as parakeet-tdt_ctc-110m."""
    return {
        "model_type": "parakeet_tdt",
        "vocab_size": 1025,
        "blank_token_id": 1024,
        "pad_token_id": 2,
        "decoder_hidden_size": 640,
        "num_decoder_layers": 1,
        "durations": [0, 1, 2, 3, 4],
        "max_symbols_per_step": 10,
        "hidden_act": "relu",
        "encoder_config": {
            "model_type": "parakeet_encoder",
            "hidden_size": 512,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "intermediate_size": 2048,
            "hidden_act": "silu",
            "conv_kernel_size": 9,
            "subsampling_factor": 8,
            "subsampling_conv_channels": 256,
            "subsampling_conv_kernel_size": 3,
            "subsampling_conv_stride": 2,
            "num_mel_bins": 80,
            "max_position_embeddings": 5000,
            "attention_bias": False,
            "convolution_bias": False,
            "scale_input": False,
        },
    }


def make_model(folder, pieces, layers):
    """Write the model in MLX's layout of NeMo's names; return its tokens in 30 s of the pieces."""
    import mlx.core as mx

    from tests.stage.random_parakeet import write_folder
    from tests.stage.tiny_parakeets import write_mlx
    from worker.models.parakeet.backend import make_network
    from worker.models.parakeet.weights.load import load_weights

    tuned = {"gain": 4.0, "center": [0.0] * 640, "blank": 0.0, "tokens": 0.0}
    tuned["durations"] = [-2.0, 0.0, 0.5, 0.5, 0.0]
    case = {"config": model_config(layers), "seed": 9, "tuned": tuned}
    weights = load_weights(str(write_folder(folder / "hf", case)), dtype=mx.float32)
    arrays = weights.arrays
    states = make_network(weights, mx.float32).states(pieces)
    heard = np.concatenate([np.array(each) for each in states])
    arrays["joint.enc.bias"] = mx.array(-(heard @ np.array(arrays["joint.enc.weight"]).T).mean(0))
    encoded = make_network(weights, mx.float32).encode(pieces)
    start, found = np.array(arrays["joint.joint_net.2.bias"]), 0
    low, high = 0.0, 20.0
    for _ in range(TUNING_ROUNDS):
        middle, biases = (low + high) / 2, start.copy()
        biases[1024] += middle
        arrays["joint.joint_net.2.bias"] = mx.array(biases)
        labels = decode(make_network(weights, mx.float32), encoded)
        found = sum(map(len, labels)) * 30 * RATE_HZ / sum(len(piece) for piece in pieces)
        low, high = (middle, high) if found > TOKENS_IN_30_S else (low, middle)
    path = write_mlx(weights, folder / "mlx") / "config.json"
    target = (
        "nemo.collections.asr.models.rnnt_bpe_models.EncDecRNNTBPEModel"  # the peers look at it
    )
    path.write_text(json.dumps({"target": target, **json.loads(path.read_text())}))
    return found


def decode(network, encoded):
    """Return the labels of encoded pieces, all rows together."""
    from worker.models.parakeet.requests import Recognize
    from worker.models.parakeet.tdt import TdtStepper

    stepper, found = TdtStepper(network, len(encoded)), {}
    for key, each in enumerate(encoded):
        stepper.add(key, Recognize(each))
    while stepper.num_wanted:
        found |= dict(stepper.step())
    return [found[key] for key in range(len(encoded))]


def run_ours(backend, folder):
    """Time ours in this process; a dictionary as peers/parakeet.py prints one."""
    import mlx.core as mx

    from worker.models.parakeet.backend import make_network
    from worker.models.parakeet.weights.load import load_weights

    network = make_network(load_weights(str(folder / "mlx")), mx.float32, backend)
    pieces = list(np.load(folder / "pieces.npy"))
    decode(network, network.encode(pieces[:1]))
    started = time.perf_counter()
    states = network.encode(pieces)
    mx.eval([each.states for each in states if isinstance(each.states, mx.array)])
    encoded_s = time.perf_counter() - started
    labels = decode(network, states)
    seconds = time.perf_counter() - started
    return {
        "batch_s": seconds,
        "encoder_s": encoded_s,
        "tokens": [[label.token for label in row] for row in labels],
        "starts": [[label.frame for label in row] for row in labels],
        "features": our_features(network, pieces[0]).tolist(),
    }


def our_features(network, samples):
    """Return the features of a piece, (frames, 80)."""
    from worker.models.parakeet.buckets import bucket_of

    if network.__class__.__name__ == "NumpyParakeet":
        return network.features([samples])[0]
    mel, _ = network.features([samples], bucket_of(network.config.num_frames(samples.size)))
    return np.array(mel)[0, : samples.size // 160]


def true_features(samples, num_mels=80):
    """Return what NeMo's and transformers' formula gives in float64, (frames, 80)."""
    from worker.models.mel import mel_filterbank

    wave = samples.astype(np.float64)
    wave = np.concatenate([wave[:1], wave[1:] - 0.97 * wave[:-1]])
    window = np.zeros(512)
    window[56:456] = np.hanning(400)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, 256), 512)[::160]
    power = np.abs(np.fft.rfft(frames[: samples.size // 160] * window)) ** 2
    mels = np.log(power @ mel_filterbank(512, num_mels).astype(np.float64) + 2.0**-24)
    return (mels - mels.mean(0)) / (mels.std(0, ddof=1) + 1e-5)


def run_child(name, folder):
    """Run one engine in a process of its own and return what it prints."""
    if name in OURS:
        command = [sys.executable, "-m", "tests.benchmarks.bench_parakeet_cpu", "--ours", name]
    else:
        python = os.environ.get("PEERS_PYTHON", sys.executable)
        command = [python, str(HERE / "peers" / "parakeet.py"), name]
    variables = dict(os.environ)
    if name != "numpy" and OPENBLAS.exists():
        variables["LD_PRELOAD"] = str(OPENBLAS)
    done = subprocess.run(
        [*command, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=variables,
        check=False,
    )
    if not done.stdout.strip():
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--layers", type=int, default=17)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engines", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--audio", type=Path, default=ROOT.parent / "shared/data/audio/english")
    parser.add_argument("--ours", choices=OURS, help="run this network alone on a folder")
    parser.add_argument("folder", nargs="?", type=Path)
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(run_ours(arguments.ours, arguments.folder)), flush=True)
        os._exit(0)
    import soundfile

    chapters = sorted(arguments.audio.glob("librispeech-*.flac"))
    joined = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in chapters])
    length = int(arguments.seconds * RATE_HZ)
    pieces = list(joined[: arguments.batch * length].reshape(arguments.batch, length))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "pieces.npy", np.stack(pieces))
        tokens = make_model(folder, pieces, arguments.layers)
        np.save(
            folder / "features.npy",
            np.stack([true_features(each) for each in pieces], dtype=np.float32),
        )
        print(f"{tokens:.0f} tokens in 30 s, load {os.getloadavg()[0]:.1f}", flush=True)
        runs = {}
        for _ in range(arguments.rounds):
            for engine in arguments.engines.split(","):
                found = run_child(engine, folder)
                runs.setdefault(engine, []).append(found)
                times = {name: value for name, value in found.items() if name.endswith("_s")}
                print(engine, times, f"load {os.getloadavg()[0]:.1f}", flush=True)
    print("\n".join(table(runs, pieces)))


def table(runs, pieces):
    """Yield each engine's best seconds, and what it heard and found beside ours."""
    truth, best = true_features(pieces[0]), {}
    for engine, results in runs.items():
        best[engine] = {k: min(r[k] for r in results) for k in results[0] if k.endswith("_s")}
    ours = min(best[engine]["batch_s"] for engine in OURS if engine in best)
    audio_s = sum(len(piece) for piece in pieces) / RATE_HZ
    wanted = runs[next(engine for engine in OURS if engine in runs)][0]["tokens"]
    yield "| engine | as a batch | one by one | encoder | times real time | slower than ours |"
    yield "|---|---:|---:|---:|---:|---:|"
    for engine, found in best.items():
        least = min(found[name] for name in ("batch_s", "alone_s") if name in found)
        cells = [
            f"{found[n]:.1f} s" if n in found else "" for n in ("batch_s", "alone_s", "encoder_s")
        ]
        cells += [f"{audio_s / least:.1f}", f"{least / ours:.2f}"]
        yield f"| {engine} | " + " | ".join(cells) + " |"
    yield ""
    for engine, results in runs.items():
        features = np.array(results[0]["features"])
        frames = min(len(features), len(truth))
        apart = np.abs(features[:frames] - truth[:frames])
        same = sum(a == b for a, b in zip(results[0]["tokens"], wanted, strict=True))
        given = sum(
            a == b
            for a, b in zip(results[0].get("tokens_of_our_features", []), wanted, strict=False)
        )
        line = (
            f"- {engine}: {len(features)} frames (right: {len(truth)}), features off by"
            f" {apart.mean():.1e} on average, {apart.max():.1e} at most; tokens as ours in {same} of"
            f" {len(wanted)} pieces"
        )
        yield line + (
            f", {given} when given our features" if "tokens_of_our_features" in results[0] else ""
        )


if __name__ == "__main__":
    main()
