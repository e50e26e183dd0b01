"""A Whisper model's folder: which of the three formats it is, and what it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.packaged import hash_files
from worker.models.tensor_files import load_tensors, quantization_of, read_json, weight_files
from worker.models.whisper.weights import ctranslate2, huggingface
from worker.models.whisper.weights.parameters import Dimensions

# Stored by older converters; the network computes them from the dimensions.
_COMPUTED = ("encoder._positional_embedding", "encoder.positional_embedding", "decoder._mask")


@dataclass(frozen=True)
class Opened:
    """The content of a folder, not yet checked against the dimensions.

    Attributes:
        dims: Sizes.
        arrays: Parameter name to array, perhaps not read yet.
        quantization: `{"group_size": ..., "bits": ...}`, or None.
        alignment_heads: As the folder gives them; None if it does not.
        revision: Hub commit, or hash of the content.
        source: The folder.
    """

    dims: Dimensions
    arrays: dict[str, mx.array]
    quantization: dict[str, int] | None
    alignment_heads: Any
    revision: str
    source: str


def open_folder(folder: Path, revision: str | None = None) -> Opened:
    """Open an MLX, Hugging Face or CTranslate2 folder.

    Args:
        folder: Where `config.json` and the weights are.
        revision: Hub commit; None takes a hash of the files.

    Raises:
        InvalidModel: no weights in a known format, a truncated file or an unknown config.
    """
    config = folder / "config.json"
    parts = _ctranslate2_parts(folder)
    if parts:
        return open_ctranslate2(parts, config, revision or hash_files([*parts, config]))
    files = weight_files(folder, "model.bin")
    for file in (*files, config):
        if not file.is_file():
            raise InvalidModel(str(file), "is missing")
    return _open_arrays(folder, files, revision or hash_files([*files, config]))


def open_ctranslate2(parts: list[Path], config: Path, revision: str) -> Opened:
    """Open a CTranslate2 `model.bin`, whole or in parts, with its `config.json`.

    Raises:
        InvalidModel: truncated, damaged or not Whisper.
    """
    dims, arrays = ctranslate2.read_model(parts)
    heads = read_json(config).get("alignment_heads")
    return Opened(dims, arrays, None, heads, revision, str(parts[0].parent))


def _ctranslate2_parts(folder: Path) -> list[Path]:
    whole = folder / "model.bin"
    if whole.is_file():
        return [whole]
    parts = folder.glob("model.bin.part*")
    return sorted(parts, key=lambda part: (len(part.name), part.name))


def _open_arrays(folder: Path, files: list[Path], revision: str) -> Opened:
    source = str(folder)
    config = read_json(folder / "config.json")
    arrays: dict[str, mx.array] = {}
    for file in files:
        arrays |= load_tensors(file)
    heads = arrays.pop("alignment_heads", None)
    published = heads.tolist() if heads is not None else config.get("alignment_heads")
    generation = folder / "generation_config.json"
    if published is None and generation.is_file():
        published = read_json(generation).get("alignment_heads")
    dims = huggingface.dimensions(config, source)
    if huggingface.is_huggingface(arrays):
        arrays = huggingface.renamed(arrays, dims, source)
    for name in _COMPUTED:
        arrays.pop(name, None)
    quantization = quantization_of(config, source)
    return Opened(dims, arrays, quantization, published, revision, source)
