"""Times parakeet-mlx or mlx-audio on pieces of equal length, and prints JSON.

    python tests/benchmarks/peers/parakeet.py parakeet-mlx|mlx-audio FOLDER

FOLDER has `mlx/` (config.json, model.safetensors), `pieces.npy` (pieces, samples) and, if its tokens
are to be compared for equal input, `features.npy` (pieces, frames, mels).
Both are called as their own code calls them: features of each piece, then `generate`'s or `decode`'s
batch; and piece by piece.
"""

import json
import sys
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

FRAME_S = 0.08


def open_parakeet_mlx(folder):
    """Return features and tokens as functions."""
    from parakeet_mlx.audio import get_logmel
    from parakeet_mlx.utils import from_pretrained

    model = from_pretrained(str(folder), dtype=mx.float32)
    return model, lambda x: get_logmel(x, model.preprocessor_config), model.generate


def open_mlx_audio(folder):
    """Return features and tokens as functions."""
    import warnings

    from mlx_audio.stt.models.parakeet.audio import log_mel_spectrogram
    from mlx_audio.stt.models.parakeet.parakeet import Model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Model.from_pretrained(str(folder), dtype=mx.float32)
    return model, lambda x: log_mel_spectrogram(x, model.preprocessor_config), model.decode


def tokens_of(results):
    return [[token.id for s in result.sentences for token in s.tokens] for result in results]


def starts_of(results):
    return [
        [round(token.start / FRAME_S) for s in result.sentences for token in s.tokens]
        for result in results
    ]


def main():
    name, folder = sys.argv[1], Path(sys.argv[2])
    opened = open_parakeet_mlx if name == "parakeet-mlx" else open_mlx_audio
    model, features, decode = opened(folder / "mlx")
    pieces = [mx.array(piece) for piece in np.load(folder / "pieces.npy")]
    first = features(pieces[0])
    decode(first)
    started = time.perf_counter()
    encoded = model.encoder(mx.concatenate([features(piece) for piece in pieces]))
    mx.eval(encoded)
    encoder_s = time.perf_counter() - started
    started = time.perf_counter()
    results = decode(mx.concatenate([features(piece) for piece in pieces]))
    batch_s = time.perf_counter() - started
    started = time.perf_counter()
    for piece in pieces:
        decode(features(piece))
    report = {
        "batch_s": batch_s,
        "alone_s": time.perf_counter() - started,
        "encoder_s": encoder_s,
        "tokens": tokens_of(results),
        "starts": starts_of(results),
        "features": np.array(first)[0].tolist(),
    }
    if (folder / "features.npy").exists():
        given = decode(mx.array(np.load(folder / "features.npy")))
        report["tokens_of_our_features"] = tokens_of(given)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
