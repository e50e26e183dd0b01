"""The random models of tests/data/parakeet.json as folders in Hugging Face's layout."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import soundfile
from numpy.typing import NDArray

from tests.data.parakeet_recipes import piece, weights

DATA = Path(__file__).parents[1] / "data"
STORED = json.loads((DATA / "parakeet.json").read_text(encoding="utf-8"))
CASES: dict[str, dict[str, Any]] = STORED["cases"]
ARRAYS = np.load(DATA / "parakeet.npz")
PACKAGE, CLIP = "moonshine_onnx", "assets/beckett.wav"


@cache
def recording() -> NDArray[np.float32]:
    """Return the packaged recording, real speech, that the pieces are cut from."""
    found = importlib.util.find_spec(PACKAGE)
    assert found is not None
    assert found.origin is not None
    samples, rate_hz = soundfile.read(Path(found.origin).parent / CLIP, dtype="float32")
    assert rate_hz == 16_000
    return np.asarray(samples)


def pieces(case: dict[str, Any]) -> list[NDArray[np.float32]]:
    """Return the pieces of a case, float32 at 16 kHz."""
    return [piece(spec, recording()) for spec in case["pieces"]]


def write_folder(folder: Path, case: dict[str, Any], **changes: Any) -> Path:
    """Write a case's model; `changes` are to its configuration and change no tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    config = case["config"]
    tensors = dict(weights(config, case["seed"], case["tuned"]))
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.array(each) for name, each in tensors.items()}
    )
    (folder / "config.json").write_text(json.dumps(config | changes))
    extractor = {
        "feature_extractor_type": "ParakeetFeatureExtractor",
        "feature_size": config["encoder_config"]["num_mel_bins"],
        "hop_length": 160,
        "n_fft": 512,
        "padding_value": 0.0,
        "preemphasis": 0.97,
        "sampling_rate": 16_000,
        "win_length": 400,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    num_labels = config["vocab_size"] - 1
    pieces = [[f"{'▁' if index % 3 == 0 else ''}{index:x}", 0.0] for index in range(num_labels)]
    blank = {"id": num_labels, "content": "<blank>", "special": True}
    tokenizer = {"model": {"type": "Unigram", "vocab": pieces}, "added_tokens": [blank]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def by_row(name: str, stored: str, lengths: list[int]) -> list[NDArray[np.float32]]:
    """Return an array of a case as its rows, which are stored one behind the other."""
    return np.split(ARRAYS[f"{name}/{stored}"], np.cumsum(lengths)[:-1])
