"""A model folder on disk: which of the three formats it is, and what is in it."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from producer.errors import InvalidModel
from worker.models.packaged import hash_files
from worker.models.whisper.weights import ctranslate2, huggingface
from worker.models.whisper.weights.parameters import Dimensions

_SINGLE = ("weights.safetensors", "model.safetensors", "weights.npz")
_INDEX = "model.safetensors.index.json"
_BITS = (2, 3, 4, 5, 6, 8)
_GROUP_SIZES = (32, 64, 128)
# A safetensors header of a large model has about 200 KB; the format's own limit is 100 MB.
_MAX_HEADER_BYTES = 100_000_000
# Left by older converters; computed from the dimensions instead.
_COMPUTED = ("encoder._positional_embedding", "encoder.positional_embedding", "decoder._mask")


@dataclass(frozen=True)
class Opened:
    """What a folder holds, not checked against the dimensions yet; arrays may be lazy."""

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
        InvalidModel: no weights that we read, a truncated file or an unknown config.
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
    # A shard lies beside its index: a path out of the folder is refused.
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
        arrays |= _load(file)
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


def _load(file: Path) -> dict[str, mx.array]:
    """Return the file's tensors, lazily, after checking that the file is whole."""
    if file.suffix == ".npz":
        _check_npz(file)
    else:
        _check_safetensors(file)
    try:
        loaded = mx.load(str(file))
    except (RuntimeError, ValueError) as error:
        raise InvalidModel(str(file), "cannot be read", str(error)) from error
    if not isinstance(loaded, dict):
        raise InvalidModel(str(file), "must hold named tensors", type(loaded).__name__)
    return loaded


def _check_npz(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidModel(str(file), "must be a whole npz file", str(error)) from error
    if damaged is not None:
        raise InvalidModel(f"{file}: {damaged.removesuffix('.npy')}", "has a wrong checksum")


def _check_safetensors(file: Path) -> None:
    """Check the header against the file's size: what breaks off is found before it is read."""
    if not file.is_file():
        raise InvalidModel(str(file), "is missing")
    size = file.stat().st_size
    with file.open("rb") as stream:
        header_bytes = int.from_bytes(stream.read(8), "little")
        if header_bytes > min(size - 8, _MAX_HEADER_BYTES):
            raise InvalidModel(str(file), f"breaks off: header of {header_bytes} bytes", size)
        header = _parsed_object(file, stream.read(header_bytes))
    for name, tensor in header.items():
        if name != "__metadata__":
            end = 8 + header_bytes + _end_offset(f"{file}: {name}", tensor)
            if end > size:
                raise InvalidModel(f"{file}: {name}", f"breaks off: {end} bytes", size)


def _end_offset(context: str, tensor: Any) -> int:
    try:
        begin, end = tensor["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidModel(context, "must have data_offsets", str(tensor)) from error
    if not isinstance(begin, int) or not isinstance(end, int) or not 0 <= begin <= end:
        raise InvalidModel(context, "must have ascending data_offsets", [begin, end])
    return end


def read_json(file: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        InvalidModel: the file is missing or no JSON object.
    """
    if not file.is_file():
        raise InvalidModel(str(file), "is missing")
    return _parsed_object(file, file.read_bytes())


def _parsed_object(file: Path, data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(str(file), "must be JSON", str(error)) from error
    if not isinstance(parsed, dict):
        raise InvalidModel(str(file), "must be a JSON object", type(parsed).__name__)
    return parsed
