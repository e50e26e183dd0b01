"""Quantizes loaded weights, and writes them as an MLX folder."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp

import mlx.core as mx
import numpy as np

from producer.errors import InvalidOptions
from worker.models.whisper.weights.parameters import Weights, cast, is_quantizable

# As in the quantized models of mlx-community: smaller groups cost size, larger ones accuracy.
GROUP_SIZE = 64
BITS = (4, 8)


def quantize(weights: Weights, bits: int) -> Weights:
    """Return weights whose linear layers and token embedding are packed integers.

    Args:
        weights: Float weights.
        bits: Of each number, 4 or 8; each group of 64 in a row has a scale and a bias.

    Raises:
        InvalidOptions: the weights are quantized already, or the bits are neither 4 nor 8.
    """
    check_bits(bits)
    if weights.quantization is not None:
        raise InvalidOptions("quantize", "needs float weights", weights.name)
    arrays: dict[str, mx.array] = {}
    for name, array in weights.arrays.items():
        if not is_quantizable(name) or array.shape[-1] % GROUP_SIZE:
            arrays[name] = array
            continue
        stem = name.removesuffix(".weight")
        packed, scales, biases = mx.quantize(array, group_size=GROUP_SIZE, bits=bits)
        mx.eval(packed, scales, biases)
        arrays |= {name: packed, f"{stem}.scales": scales, f"{stem}.biases": biases}
    return replace(weights, arrays=arrays, quantization={"group_size": GROUP_SIZE, "bits": bits})


def dequantize(weights: Weights, dtype: mx.Dtype) -> Weights:
    """Return the weights with packed tensors unpacked to floats.

    MLX multiplies packed weights fast on Metal and CUDA. Its CPU backend takes 40 times as long as
    for floats (1500 x 384 by 384 x 1536, OpenBLAS), so a CPU worker unpacks them.
    """
    if weights.quantization is None:
        return cast(weights, dtype)
    arrays: dict[str, mx.array] = {}
    for name, array in weights.arrays.items():
        stem = name.removesuffix(".weight")
        if array.dtype == mx.uint32:
            scales, biases = weights.arrays[f"{stem}.scales"], weights.arrays[f"{stem}.biases"]
            # In float32, so that the product is rounded once.
            arrays[name] = mx.dequantize(
                array,
                scales.astype(mx.float32),
                biases.astype(mx.float32),
                group_size=weights.quantization["group_size"],
                bits=weights.quantization["bits"],
            ).astype(dtype)
            mx.eval(arrays[name])
        elif not name.endswith((".scales", ".biases")):
            arrays[name] = array.astype(dtype)
    return replace(weights, arrays=arrays, quantization=None)


def save(weights: Weights, folder: Path) -> None:
    """Write an MLX folder: `config.json` and `weights.safetensors`, complete or not at all.

    mlx-whisper loads it too: its alignment heads are an array among the weights.

    Raises:
        InvalidOptions: the folder exists and is not empty, or cannot be written.
    """
    check_out(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InvalidOptions("out", "must be writable", str(error)) from error
    try:
        _write(weights, draft)
        draft.chmod(0o755)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_bits(bits: int) -> None:
    """Check the bits for `quantize`.

    Raises:
        InvalidOptions: neither 4 nor 8.
    """
    if bits not in BITS:
        raise InvalidOptions("quantize", "must be 4 or 8", bits)


def check_out(folder: Path) -> None:
    """Check that `save` would overwrite nothing.

    Raises:
        InvalidOptions: there is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidOptions("out", "must be a new or empty folder", str(folder))


def _write(weights: Weights, folder: Path) -> None:
    config = {"model_type": "whisper", **asdict(weights.dims)}
    if weights.quantization is not None:
        config["quantization"] = weights.quantization
    heads = mx.array(weights.alignment_heads.astype(np.int32))
    mx.save_safetensors(
        str(folder / "weights.safetensors"),
        {**weights.arrays, "alignment_heads": heads},
        metadata={"format": "mlx"},
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
