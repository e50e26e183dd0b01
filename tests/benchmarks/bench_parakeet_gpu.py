"""Parakeet on a GPU beside transformers, with the 0.6b's shapes and random weights.

    python -m tests.benchmarks.bench_parakeet_gpu --audio FOLDER
        [--parts transformers,encoder,device,reading,parakeet] [--batches 16,64,128,256]
        [--processes 4,8,14] [--slots 256] [--seconds 15] [--shapes 0.6b] [--model /dev/shm/parakeet]

`transformers`: its batched `generate`, features on the device; and its encoder alone. `encoder`,
`device`: ours, features in, states and tokens out: one batch after another (`at once`), and rows
that join as others leave (`joining`). `reading`: what one thread reads of the files. `parakeet`: the
whole engine from the files to results, and where the time went, once for each number of reading
`--processes`: making the model takes some 20 s, and then each engine 12 to 20 s to warm up and
`--warm` + `--seconds`.

FOLDER holds recordings of real speech; pieces of 30 s are cut from them. bfloat16. Prints figures as
lines of JSON and tables. `--shapes tiny` tries it out on a CPU. Beside Whisper: gpu/drive.py.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.gpu.shapes import leave, numbers
from tests.benchmarks.parakeet_random import is_label, make_folder, stand_in_for_librosa

RATE_HZ = 16_000
PIECE_S = 30
TUNED_ON = 8


def read_pieces(folder, count):
    """Return `count` pieces of 30 s of the recordings, one after another and from the start again."""
    import soundfile

    read = [soundfile.read(path, dtype="float32")[0] for path in sorted(folder.glob("*.flac"))]
    joined = np.concatenate(read)
    starts = np.arange(count) * (PIECE_S * RATE_HZ) % (len(joined) - PIECE_S * RATE_HZ)
    return [joined[start : start + PIECE_S * RATE_HZ] for start in starts]


def torch_facts(arguments):
    """Return torch's device and dtype."""
    import torch

    if arguments.shapes == "tiny":
        return "cpu", torch.float32
    return "cuda", torch.bfloat16


def ensure_model(arguments):
    device, dtype = torch_facts(arguments)
    pieces = read_pieces(arguments.audio, TUNED_ON)
    return make_folder(
        arguments.model, arguments.shapes, pieces, device, dtype, has_vad=arguments.vad
    )


def best_of(run, repeats=3):
    """Return the least seconds of some runs after one that warms up, and the last result."""
    run()
    best, result = float("inf"), None
    for _ in range(repeats):
        started = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - started)
    return best, result


def bench_transformers(report, arguments):
    """Time generate and the encoder over the batches; out of memory ends a batch, not the bench."""
    import torch

    stand_in_for_librosa()
    import transformers
    from transformers import ParakeetFeatureExtractor, ParakeetForTDT

    device, dtype = torch_facts(arguments)
    model = ParakeetForTDT.from_pretrained(arguments.model, dtype=dtype, attn_implementation="sdpa")
    model = model.to(device).eval()
    model.generation_config.decoder_start_token_id = model.config.blank_token_id
    extractor = ParakeetFeatureExtractor.from_pretrained(arguments.model)
    report["transformers_version"] = f"{transformers.__version__}, torch {torch.__version__}"
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for batch in arguments.batches:
        heard = extractor(
            read_pieces(arguments.audio, batch),
            sampling_rate=RATE_HZ,
            return_attention_mask=True,
            device="cpu",
        )
        features = heard["input_features"].to(device, dtype)
        mask = heard["attention_mask"].to(device)

        def encode(features=features, mask=mask):
            with torch.inference_mode():
                model.encoder(features, attention_mask=mask)
            wait()

        def generate(features=features, mask=mask):
            with torch.inference_mode():
                out = model.generate(input_features=features, attention_mask=mask)
            wait()
            return out

        seconds, _ = best_of(encode)
        encoder = batch * PIECE_S / seconds
        seconds, out = best_of(generate, 2)
        report.setdefault("transformers", {})[batch] = {
            "encoder": round(encoder),
            "generate": round(batch * PIECE_S / seconds),
            "tokens_in_30_s": round(int(is_label(model, out, mask).sum()) / batch, 1),
            "steps": out.sequences.shape[1] - 1,
        }
        print(json.dumps({"transformers": report["transformers"]}), flush=True)
    if device == "cuda":
        report["transformers_peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)


def markdown(report):
    """Yield the tables of what was measured."""
    if "transformers" in report or "ours" in report:
        yield "| batch | transformers encoder | generate | ours encoder | at once | joining |"
        yield "|---:|---:|---:|---:|---:|---:|"
        theirs, ours = report.get("transformers", {}), report.get("ours", {})
        for batch in sorted({*theirs, *ours}):
            cells = [theirs.get(batch, {}).get(name, "") for name in ("encoder", "generate")]
            cells += [ours.get(batch, {}).get(n, "") for n in ("encoder", "at_once", "joining")]
            yield f"| {batch} | " + " | ".join(map(str, cells)) + " |"
        yield ""
    if "engine" in report:
        yield "| slots, processes | times real time | GPU busy | reading cores | engine's thread: CPU |"
        yield "|---|---:|---:|---:|---:|"
        for row in report["engine"]:
            yield (
                f"| {row['slots']}, {row['processes']} | {row['audio_times_real_time']} |"
                f" {row['gpu_busy_percent']} % | {row['cores']['reading']} |"
                f" {row['cores']['engine']} |"
            )
        yield ""
    for name in ("reading", "ratio"):
        if name in report:
            yield f"- {name}: {report[name]}"


def finish(report):
    """Work out the ratio and print all figures."""
    theirs = [each["generate"] for each in report.get("transformers", {}).values()]
    ours = [each[n] for each in report.get("ours", {}).values() for n in ("at_once", "joining")]
    if theirs and ours:
        report["ratio"] = round(max(ours) / max(theirs), 2)
    print("\n".join(markdown(report)))
    print(json.dumps(report), flush=True)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--parts", default="transformers,encoder,device,reading,parakeet")
    parser.add_argument("--batches", type=numbers, default=[16, 64, 128, 256])
    parser.add_argument("--processes", type=numbers, default=[4, 8, 14])
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--warm", type=float, default=10)
    parser.add_argument("--shapes", default="0.6b", choices=("0.6b", "tiny"))
    parser.add_argument("--model", type=Path, default=Path("/dev/shm/parakeet"))
    parser.add_argument("--memory-bytes", type=int, help="of the device, for another beside it")
    parser.add_argument("--traced", type=float, default=0, help="seconds; see gpu/trace.py")
    parser.add_argument("--vad", action="store_true", help="with a voice activity head")
    return parser.parse_args()


def main():
    arguments = parsed()
    parts = arguments.parts.split(",")
    report = {}
    if {"transformers", "encoder", "device", "parakeet"} & set(parts):
        started = time.perf_counter()
        report["model"] = ensure_model(arguments)
        report["model_s"] = round(time.perf_counter() - started, 1)
        print(json.dumps({"model": report["model"], "model_s": report["model_s"]}), flush=True)
    if "transformers" in parts:
        bench_transformers(report, arguments)
    if set(parts) - {"transformers"}:
        from tests.benchmarks.parakeet_ours import bench_ours

        bench_ours(report, arguments, parts)
    finish(report)
    leave()


if __name__ == "__main__":
    main()
