"""The other Whisper engines, each opened on the packaged weights and asked in the same words.

Every engine gets the same samples: 16 kHz mono float32, decoded by ffmpeg to 16 bits, as
openai-whisper reads a file. So a difference in text is the engine's and not the reader's.
Runs in the reference environment that tests/data/README.md describes.
"""

import importlib.metadata
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "tests" / "data"))

import reference_models  # noqa: E402 - it lies beside the stored vectors

MODELS = Path(os.environ.get("SCRIBEFARM_PEER_MODELS", "~/.cache/scribefarm-peers")).expanduser()
OPENBLAS = Path("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0")
FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Peer:
    """An engine with a model in it.

    Attributes:
        transcribe: 16 kHz mono samples -> text.
        versions: Package name to version, of what does the work.
        options: What `transcribe` passes beside the audio, for the record.
    """

    transcribe: Callable[[np.ndarray], str]
    versions: dict[str, str]
    options: dict[str, object]


def versions(*packages: str) -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in packages}


def use_openblas() -> None:
    """Start again with OpenBLAS preloaded: MLX's Linux wheel brings a BLAS 80 times slower."""
    if sys.platform == "linux" and OPENBLAS.exists() and "LD_PRELOAD" not in os.environ:
        os.environ["LD_PRELOAD"] = str(OPENBLAS)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def openai_whisper(model: str, mode: str) -> Peer:
    """Modes: greedy and beams (5; both without fallback), fallback (the API's default), cli (beam 5,
    best of 5, fallback)."""
    import torch

    options: dict[str, object] = {
        "greedy": {"temperature": 0.0},
        "beams": {"temperature": 0.0, "beam_size": 5},
        "fallback": {"temperature": FALLBACK},
        "cli": {"temperature": FALLBACK, "beam_size": 5, "best_of": 5},
    }[mode]
    options["fp16"] = False
    whisper = reference_models.load_openai(model)

    def transcribe(samples: np.ndarray) -> str:
        torch.manual_seed(0)
        return whisper.transcribe(samples, **options)["text"]

    return Peer(transcribe, versions("openai-whisper", "torch"), options)


def mlx_whisper(model: str, mode: str) -> Peer:
    """Modes: greedy (no fallback), fallback (its default)."""
    use_openblas()
    import mlx.core as mx
    import mlx_whisper as package

    folder = MODELS / f"mlx-{model}"
    if not (folder / "config.json").exists():
        reference_models.write_mlx(model, folder)
    options = {"greedy": {"temperature": 0.0}, "fallback": {"temperature": FALLBACK}}[mode]
    options["fp16"] = False

    def transcribe(samples: np.ndarray) -> str:
        mx.random.seed(0)
        return package.transcribe(samples, path_or_hf_repo=str(folder), **options)["text"]

    return Peer(transcribe, versions("mlx-whisper", "mlx"), options)


def faster_whisper(model: str, mode: str) -> Peer:
    """Modes: greedy and beams (5; both without fallback), default (beam 5, fallback), int8 (greedy),
    batched (int8, greedy), batched-greedy and batched-beams (float32). The last three compute 6
    windows at once, or as many as they name: batched-beams:8."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    folder = MODELS / f"ctranslate2-{model}"
    if not (folder / "config.json").exists():
        reference_models.write_ctranslate2(model, folder)
    compute_type = "int8" if mode in ("int8", "batched") else "float32"
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    threads = int(os.environ.get("OMP_NUM_THREADS", cpus))
    engine = WhisperModel(str(folder), device="cpu", compute_type=compute_type, cpu_threads=threads)
    mode, _, batch = mode.partition(":")
    # Its batched pipeline needs windows: its own VAD finds them.
    at_once = {"batch_size": int(batch or 6)}
    greedy = {"beam_size": 1, "temperature": 0.0}
    beams = {"beam_size": 5, "temperature": 0.0}
    options = {
        "greedy": greedy,
        "beams": beams,
        "default": {},
        "int8": greedy,
        "batched": greedy | at_once,
        "batched-greedy": greedy | at_once,
        "batched-beams": beams | at_once,
    }[mode]
    call = BatchedInferencePipeline(engine) if mode.startswith("batched") else engine

    def transcribe(samples: np.ndarray) -> str:
        segments, _ = call.transcribe(samples, **options)
        return "".join(segment.text for segment in segments)

    described = {**options, "compute_type": compute_type}
    return Peer(transcribe, versions("faster-whisper", "ctranslate2"), described)


PEERS = {
    "openai-whisper": (openai_whisper, ("greedy", "beams", "fallback", "cli")),
    "mlx-whisper": (mlx_whisper, ("greedy", "fallback")),
    "faster-whisper": (
        faster_whisper,
        ("greedy", "beams", "default", "int8", "batched", "batched-greedy", "batched-beams"),
    ),
}


def load(peer: str, model: str, mode: str) -> Peer:
    """Open `peer` ("openai-whisper", ...) on the packaged `model`; `mode` is one of its own."""
    make, modes = PEERS[peer]
    if mode.partition(":")[0] not in modes:
        sys.exit(f"{peer} has the modes {', '.join(modes)}, not {mode}")
    return make(model, mode)


def read_samples(path: str) -> np.ndarray:
    """Read a file of the shared data as every peer gets it: ffmpeg, 16-bit, mono, 16 kHz."""
    from whisper.audio import load_audio

    return load_audio(str(reference_models.SHARED_DATA / path))
