"""A Whisper model's folder: which of the three formats it is, and what it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.packaged import hash_files
from worker.models.tensor_files import load_tensors, read_json
from worker.models.whisper.weights import ctranslate2, huggingface
from worker.models.whisper.weights.parameters import Dimensions

_SINGLE = ("weights.safetensors", "model.safetensors", "weights.npz")
_INDEX = "model.safetensors.index.json"
_BITS = (2, 3, 4, 5, 6, 8)
_GROUP_SIZES = (32, 64, 128)
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
    files = _weight_files(folder)
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


def _weight_files(folder: Path) -> list[Path]:
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    if not (folder / _INDEX).is_file():
        readable = ", ".join((*_SINGLE, _INDEX, "model.bin"))
        raise InvalidModel(str(folder), f"must hold one of {readable}")
    shards = sorted(set(_weight_map(folder).values()))
    return [folder / shard for shard in shards]


def _weight_map(folder: Path) -> dict[str, str]:
    weight_map = read_json(folder / _INDEX).get("weight_map")
    # Shards lie beside their index; a path out of the folder is refused.
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or any(Path(str(shard)).name != shard for shard in weight_map.values())
    ):
        raise InvalidModel(str(folder / _INDEX), "must map tensors to files of this folder")
    return weight_map


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
    quantization = _quantization(config, source)
    return Opened(dims, arrays, quantization, published, revision, source)


def _quantization(config: dict[str, Any], source: str) -> dict[str, int] | None:
    stored = config.get("quantization")
    if stored is None:
        return None
    context = f"{source}: quantization"
    if not isinstance(stored, dict) or stored.get("mode", "affine") != "affine":
        raise InvalidModel(context, "must be affine, with group_size and bits", str(stored))
    if stored.get("bits") not in _BITS or stored.get("group_size") not in _GROUP_SIZES:
        raise InvalidModel(
            context, f"must have bits in {_BITS} and group_size in {_GROUP_SIZES}", str(stored)
        )
    return {"group_size": stored["group_size"], "bits": stored["bits"]}
