"""Files of named tensors (safetensors, npz) and JSON, checked before they are trusted."""

import json
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx

from producer.errors import InvalidModel

# A safetensors header of a large model has about 200 KB; the format's own limit is 100 MB.
_MAX_HEADER_BYTES = 100_000_000
_SINGLE = ("weights.safetensors", "model.safetensors", "weights.npz")
_INDEX = "model.safetensors.index.json"
_BITS = (2, 3, 4, 5, 6, 8)
_GROUP_SIZES = (32, 64, 128)


def load_tensors(file: Path) -> dict[str, mx.array]:
    """Return a file's tensors, to be read lazily, after checking that the file is whole.

    Args:
        file: `.npz` or `.safetensors`.

    Raises:
        InvalidModel: the file is missing, truncated, damaged, or holds no named tensors.
    """
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
    """Check that the file is as long as its header declares."""
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
    """Return a file's JSON object.

    Raises:
        InvalidModel: the file is missing or does not hold a JSON object.
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


def weight_files(folder: Path, *others: str) -> list[Path]:
    """Return a model folder's files of tensors: a single one, or the shards of an index.

    Args:
        folder: The model's.
        others: What the family could read instead, for the message.

    Raises:
        InvalidModel: there are none, or the index names files elsewhere.
    """
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    if not (folder / _INDEX).is_file():
        readable = ", ".join((*_SINGLE, _INDEX, *others))
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


def quantization_of(config: dict[str, Any], source: str) -> dict[str, int] | None:
    """Return `{"group_size": ..., "bits": ...}` of a `config.json` of MLX's; None if it has none.

    Raises:
        InvalidModel: quantized in a way that we do not read.
    """
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
