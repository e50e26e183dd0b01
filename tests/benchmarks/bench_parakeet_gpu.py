"""Parakeet on a GPU beside transformers, with the 0.6b's shapes and random weights.

    python -m tests.benchmarks.bench_parakeet_gpu --audio FOLDER
        [--parts transformers,encoder,device,reading,parakeet,whisper] [--batches 16,64,128,256]
        [--threads 4,8,14] [--slots 256] [--seconds 15] [--shapes 0.6b] [--model /dev/shm/parakeet]

`transformers`: its batched `generate`, features on the device; and its encoder alone. `encoder`,
`device`: ours, features in, states and tokens out: one batch after another (`at once`), and rows
that join as others leave (`joining`). `reading`: what one thread reads of the files. `parakeet`,
`whisper`: the whole engine from the files to results, Whisper with bench_engine_gpu.py's
large-v3-turbo (in a process of its own), and where the time went.

FOLDER holds recordings of real speech; pieces of 30 s are cut from them. bfloat16, float16 for
Whisper. Prints tables, and writes $OUT/parakeet_<parts>.json where $OUT is set. `--shapes tiny` tries
it out on a CPU.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.parakeet_random import is_label, make_folder

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
        print(json.dumps(report["transformers"]), flush=True)
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
        yield "| engine | times real time | GPU busy | reading cores | engine's thread: CPU |"
        yield "|---|---:|---:|---:|---:|"
        for row in report["engine"]:
            yield (
                f"| {row['what']} | {row['times_real_time']} | {row['gpu_busy_percent']} % |"
                f" {row['cores']['reading']} | {row['cores']['engine']} |"
            )
        yield ""
    for name in ("reading", "ratio", "engine_ratio"):
        if name in report:
            yield f"- {name}: {report[name]}"


def finish(report, arguments):
    """Work out the ratios, print, and write the figures to $OUT."""
    theirs = [each["generate"] for each in report.get("transformers", {}).values()]
    ours = [each[n] for each in report.get("ours", {}).values() for n in ("at_once", "joining")]
    if theirs and ours:
        report["ratio"] = round(max(ours) / max(theirs), 2)
    best, rows = {}, list(report.get("engine", []))
    for path in Path(os.environ.get("OUT", "/nowhere")).glob("parakeet_*.json"):
        rows += json.loads(path.read_text(encoding="utf-8")).get("engine", [])
    for row in rows:
        family = row["what"].split(",")[0]
        best[family] = max(best.get(family, 0), row["times_real_time"])
    if best.keys() >= {"parakeet", "whisper"}:
        report["engine_ratio"] = round(best["parakeet"] / best["whisper"], 2)
    print("\n".join(markdown(report)))
    print(json.dumps(report, indent=1), flush=True)
    if folder := os.environ.get("OUT"):
        name = f"parakeet_{arguments.parts.replace(',', '_')}.json"
        (Path(folder) / name).write_text(json.dumps(report, indent=1), encoding="utf-8")


def numbers(text):
    return [int(number) for number in text.split(",")]


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--parts", default="transformers,encoder,device,reading,parakeet")
    parser.add_argument("--batches", type=numbers, default=[16, 64, 128, 256])
    parser.add_argument("--threads", type=numbers, default=[4, 8, 14])
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--whisper-slots", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--warm", type=float, default=10)
    parser.add_argument("--shapes", default="0.6b", choices=("0.6b", "tiny"))
    parser.add_argument("--model", type=Path, default=Path("/dev/shm/parakeet"))
    parser.add_argument("--vad", action="store_true", help="with a voice activity head")
    return parser.parse_args()


def main():
    arguments = parsed()
    parts = arguments.parts.split(",")
    if "whisper" in parts and len(parts) > 1:
        sys.exit(
            "whisper: in a process of its own, with the CUDA graphs that Parakeet does without"
        )
    report = {}
    if {"transformers", "encoder", "device", "parakeet"} & set(parts):
        report["model"] = ensure_model(arguments)
        print(json.dumps(report["model"]), flush=True)
    if "transformers" in parts:
        bench_transformers(report, arguments)
    if set(parts) - {"transformers"}:
        from tests.benchmarks.parakeet_ours import bench_ours

        bench_ours(report, arguments, parts)
    finish(report, arguments)
    os._exit(0)  # MLX's CUDA build aborts in its own exit handlers once a second thread used it


if __name__ == "__main__":
    main()
