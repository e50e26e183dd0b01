"""What all rows of the table share: the model's shapes, the work of a window, how figures are told.

Neither MLX nor torch is imported here: each row has a process of its own with one of them.
"""

import argparse
import json
import os
import time
from pathlib import Path

WINDOW_S = 30
RATE_HZ = 16_000
N_AUDIO_CTX = 1500
SHAPES = {
    # large-v3-turbo's.
    "turbo": {
        "n_mels": 128,
        "n_audio_ctx": N_AUDIO_CTX,
        "n_audio_state": 1280,
        "n_audio_head": 20,
        "n_audio_layer": 32,
        "n_vocab": 51866,
        "n_text_ctx": 448,
        "n_text_state": 1280,
        "n_text_head": 20,
        "n_text_layer": 4,
    },
    # For trying the bench out on a CPU.
    "tiny": {
        "n_mels": 128,
        "n_audio_ctx": N_AUDIO_CTX,
        "n_audio_state": 64,
        "n_audio_head": 2,
        "n_audio_layer": 2,
        "n_vocab": 51866,
        "n_text_ctx": 448,
        "n_text_state": 64,
        "n_text_head": 2,
        "n_text_layer": 2,
    },
}
# Tokens that every window samples, whatever the weights say.
TOKENS = {"turbo": 112, "tiny": 8}


def encoder_tflop(sizes):
    """Return the multiplications and additions of one window's encoder, in units of 1e12."""
    width, frames = sizes["n_audio_state"], sizes["n_audio_ctx"]
    convolutions = 2 * frames * 3 * sizes["n_mels"] * width + frames * 3 * width * width
    projections = 12 * frames * width * width
    attention = 2 * frames * frames * width
    return 2 * (convolutions + sizes["n_audio_layer"] * (projections + attention)) / 1e12


def tell(figures):
    """Print figures as a line of JSON: what is told is kept, whatever happens to the process."""
    print(json.dumps(figures), flush=True)


def best_of(run, repeats):
    """Return the least seconds of some runs after one that warms up."""
    run()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - started)
    return best


def numbers(text):
    return [int(number) for number in text.split(",")]


def parser(doc):
    """Return a parser with the flags of every part."""
    made = argparse.ArgumentParser(description=doc.split("\n")[0])
    made.add_argument("--shapes", default="turbo", choices=tuple(SHAPES))
    made.add_argument("--model", type=Path, default=Path("/dev/shm/gpubench/whisper"))
    made.add_argument("--recordings", type=Path, default=Path("/dev/shm/gpubench/recordings"))
    made.add_argument("--seconds", type=float, default=20, help="of steady state")
    made.add_argument("--warm", type=float, default=10, help="seconds before it")
    return made


def leave():
    """End the process: MLX's CUDA build aborts in its exit handlers once a second thread used it."""
    os._exit(0)
