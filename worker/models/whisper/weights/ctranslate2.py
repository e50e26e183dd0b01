"""CTranslate2 folders, as faster-whisper uses them: `model.bin` and `config.json`.

`model.bin` is little-endian: u32 format version, spec name, u32 spec revision, u32 number of
variables; for each its name, u8 rank, u32 sizes, u8 type, u32 bytes and the data; then the
aliases. A string is u16 bytes and the bytes with a closing NUL. Query, key and value are stacked
in one linear layer; quantized rows are integers to be divided by their `weight_scale`.
(CTranslate2, `src/models/model.cc`.)
"""

import mmap
import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from producer.errors import InvalidModel
from worker.models.whisper.weights.parameters import Dimensions, check_sinusoids

_SPEC = "WhisperSpec"
_VERSIONS = (4, 5, 6)  # since 4, a variable says its type and size in bytes
_MAX_VARIABLES = 1 << 16
_MAX_RANK = 8
_GELU = 3  # CTranslate2's number of the exact (erf) GELU
_BFLOAT16 = 5
# Index: CTranslate2's number of the type. NumPy has no bfloat16; its bits are carried as uint16.
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)
_FLOATS = {0: mx.float32, 4: mx.float16, _BFLOAT16: mx.bfloat16}
_POSITIONS = "encoder/position_encodings/encodings"
# The projection to the vocabulary is the token embedding; the encoder's positions are sinusoids.
_UNREAD = ("decoder/projection/weight", _POSITIONS)
_QUANTIZED = (np.dtype(np.int8), np.dtype(np.int16))

Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """One tensor of the file: where it lies and what it is."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    num_bytes: int


class Parts:
    """One or more files read as if they were one, without copying what a file maps."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Map the files into memory.

        Raises:
            InvalidModel: a part is missing or empty.
        """
        self.name = str(paths[0])
        self._maps = [_mapped(path) for path in paths]
        self._ends = list(accumulate(len(part) for part in self._maps))
        self.size = self._ends[-1]

    def read(self, offset: int, num_bytes: int, what: str) -> NDArray[np.uint8]:
        """Return bytes as an array; a view, unless they lie in two parts.

        Raises:
            InvalidModel: the file ends before, named with `what` was read.
        """
        if offset + num_bytes > self.size:
            raise InvalidModel(
                f"{self.name}: {what}", f"breaks off: {offset + num_bytes} bytes", self.size
            )
        first = bisect_right(self._ends, offset)
        start = offset - (self._ends[first] - len(self._maps[first]))
        head = np.frombuffer(self._maps[first], np.uint8)[start : start + num_bytes]
        if len(head) == num_bytes:
            return head
        rest = self.read(offset + len(head), num_bytes - len(head), what)
        return np.concatenate([head, rest])


class _Cursor:
    """Reads the header fields of `Parts` one after another."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.offset = 0

    def take(self, num_bytes: int, what: str) -> bytes:
        data = self.parts.read(self.offset, num_bytes, what).tobytes()
        self.offset += num_bytes
        return data

    def number(self, letter: str, what: str) -> int:
        """Return one unsigned number; `letter` is its struct code."""
        value: int = struct.unpack(f"<{letter}", self.take(struct.calcsize(letter), what))[0]
        return value

    def string(self, what: str) -> str:
        text = self.take(self.number("H", what), what)
        if not text.endswith(b"\0"):
            raise InvalidModel(f"{self.parts.name}: {what}", "must be a string closed by NUL")
        return text[:-1].decode("utf-8", "replace")

    def variable(self, what: str) -> Variable:
        name = self.string(what)
        rank = self.number("B", name)
        if rank > _MAX_RANK:
            raise InvalidModel(f"{self.parts.name}: {name}", f"must have rank <= {_MAX_RANK}", rank)
        shape = tuple(self.number("I", name) for _ in range(rank))
        type_number, num_bytes = self.number("B", name), self.number("I", name)
        self._check_size(name, shape, type_number, num_bytes)
        found = Variable(name, shape, type_number, self.offset, num_bytes)
        self.offset += num_bytes
        return found

    def _check_size(
        self, name: str, shape: tuple[int, ...], type_number: int, num_bytes: int
    ) -> None:
        context = f"{self.parts.name}: {name}"
        if type_number >= len(_TYPES):
            raise InvalidModel(context, f"must be of a type below {len(_TYPES)}", type_number)
        itemsize = np.dtype(_TYPES[type_number]).itemsize
        # Sizes are multiplied as Python integers, which cannot overflow.
        expected = itemsize * int(np.prod(np.array(shape, dtype=object), initial=1))
        if num_bytes != expected:
            raise InvalidModel(context, f"must have {expected} bytes for {shape}", num_bytes)
        if self.offset + num_bytes > self.parts.size:
            end = self.offset + num_bytes
            raise InvalidModel(context, f"breaks off: {end} bytes", self.parts.size)


class Model:
    """An opened `model.bin`."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the header and the place of every variable.

        Raises:
            InvalidModel: not a CTranslate2 Whisper model, truncated, or damaged.
        """
        self.parts = Parts(paths)
        cursor = _Cursor(self.parts)
        version = cursor.number("I", "format version")
        if version not in _VERSIONS:
            raise InvalidModel(f"{self.name}: format version", "must be 4 to 6", version)
        spec = cursor.string("spec name")
        if spec != _SPEC:
            raise InvalidModel(f"{self.name}: spec name", f"must be {_SPEC}", spec)
        cursor.number("I", "spec revision")
        count = cursor.number("I", "number of variables")
        if count > _MAX_VARIABLES:
            raise InvalidModel(f"{self.name}: variables", f"must be <= {_MAX_VARIABLES}", count)
        found = (cursor.variable(f"variable {index}") for index in range(count))
        self.variables = {variable.name: variable for variable in found}
        for index in range(cursor.number("I", "number of aliases")):
            alias, name = cursor.string(f"alias {index}"), cursor.string(f"alias {index}")
            self.variables.setdefault(alias, self._variable(name))
        self._read: set[str] = set()

    @property
    def name(self) -> str:
        """The path of the file, for errors."""
        return self.parts.name

    def _variable(self, name: str) -> Variable:
        if name not in self.variables:
            raise InvalidModel(f"{self.name}: {name}", "is missing")
        return self.variables[name]

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Return a variable's shape, which must have that rank."""
        shape = self._variable(name).shape
        if len(shape) != rank:
            raise InvalidModel(f"{self.name}: {name}", f"must have {rank} axes", shape)
        return shape

    def scalar(self, name: str) -> int:
        """Return a number that describes the model."""
        values = self._raw(self._variable(name)).reshape(-1)
        if values.size != 1 or values.dtype.kind == "f":
            raise InvalidModel(f"{self.name}: {name}", "must be one integer", values.shape)
        return int(values[0])

    def tensor(self, name: str, rows: slice = slice(None)) -> mx.array:
        """Return some rows of a tensor; integers are divided by their scales.

        Those take the type in which the model keeps what it does not quantize.
        """
        variable = self._variable(name)
        self._read.add(name)
        if not variable.shape:
            raise InvalidModel(f"{self.name}: {name}", "must have rows, and is a single number")
        stored = self._raw(variable)[rows]
        if stored.dtype not in _QUANTIZED:
            array = mx.array(stored)
            return array.view(mx.bfloat16) if variable.type_number == _BFLOAT16 else array
        scales = self._scales(variable)[rows].reshape(-1, *(1,) * (stored.ndim - 1))
        # A scale of 0 gives infinity, which the check of all tensors names.
        with np.errstate(divide="ignore", invalid="ignore"):
            return mx.array(stored / scales).astype(self._dtype)

    def positions(self) -> Array | None:
        """Return the encoder's positions, if they are stored in a type that NumPy has."""
        variable = self.variables.get(_POSITIONS)
        is_stored = variable is not None and variable.type_number != _BFLOAT16
        return self._raw(variable) if variable is not None and is_stored else None

    def _scales(self, quantized: Variable) -> Array:
        """Return a float32 scale for each row; int16 models have one for all."""
        name, num_rows = f"{quantized.name}_scale", quantized.shape[0]
        scales = self._raw(self._variable(name)).astype(np.float32)
        if scales.shape not in {(), (num_rows,)}:
            raise InvalidModel(f"{self.name}: {name}", f"must have {num_rows} rows", scales.shape)
        return np.broadcast_to(scales, num_rows)

    @property
    def _dtype(self) -> mx.Dtype:
        kept = self._variable("decoder/layer_norm/gamma").type_number
        return _FLOATS.get(kept, mx.float32)

    def check_all_read(self) -> None:
        """Check that no tensor is left over: it would belong to another architecture.

        Raises:
            InvalidModel: naming the first one.
        """
        for name, variable in sorted(self.variables.items()):
            is_known = name in self._read or name in _UNREAD or name.endswith("_scale")
            if variable.shape and not is_known:
                raise InvalidModel(f"{self.name}: {name}", "is no parameter of this Whisper model")

    def _raw(self, variable: Variable) -> Array:
        data = self.parts.read(variable.offset, variable.num_bytes, variable.name)
        return data.view(_TYPES[variable.type_number]).reshape(variable.shape)


def read_model(paths: Sequence[Path]) -> tuple[Dimensions, dict[str, mx.array]]:
    """Return dimensions and parameters of a `model.bin`, given whole or in parts.

    Raises:
        InvalidModel: truncated, damaged, not Whisper, or of a shape that contradicts itself.
    """
    model = Model(paths)
    dims = _dimensions(model)
    if model.scalar("decoder/activation") != _GELU:
        activation = model.scalar("decoder/activation")
        raise InvalidModel(f"{model.name}: decoder/activation", "must be GELU, 3", activation)
    positions = model.positions()
    if positions is not None:
        check_sinusoids(positions, dims, model.name)
    arrays = _ends(model)
    for index in range(dims.n_audio_layer):
        arrays |= _block(model, f"encoder/layer_{index}", f"encoder.blocks.{index}")
    for index in range(dims.n_text_layer):
        arrays |= _block(model, f"decoder/layer_{index}", f"decoder.blocks.{index}")
        arrays |= _cross(model, f"decoder/layer_{index}", f"decoder.blocks.{index}")
    model.check_all_read()
    return dims, arrays


def _dimensions(model: Model) -> Dimensions:
    n_state, n_mels, _ = model.shape("encoder/conv1/weight", 3)
    n_vocab, n_text_state = model.shape("decoder/embeddings/weight", 2)
    n_audio_ctx = 1500
    if _POSITIONS in model.variables:
        n_audio_ctx, _ = model.shape(_POSITIONS, 2)
    sizes = {
        "n_mels": n_mels,
        "n_audio_ctx": n_audio_ctx,
        "n_audio_state": n_state,
        "n_audio_head": model.scalar("encoder/num_heads"),
        "n_audio_layer": _num_layers(model, "encoder"),
        "n_vocab": n_vocab,
        "n_text_ctx": model.shape("decoder/position_encodings/encodings", 2)[0],
        "n_text_state": n_text_state,
        "n_text_head": model.scalar("decoder/num_heads"),
        "n_text_layer": _num_layers(model, "decoder"),
    }
    return Dimensions.checked(sizes, model.name)


def _num_layers(model: Model, side: str) -> int:
    layer = re.compile(rf"{side}/layer_(\d+)/")
    return len({match[1] for match in map(layer.match, model.variables) if match})


def _ends(model: Model) -> dict[str, mx.array]:
    """Return what lies outside the blocks."""
    arrays = {
        "decoder.token_embedding.weight": model.tensor("decoder/embeddings/weight"),
        "decoder.positional_embedding": model.tensor("decoder/position_encodings/encodings"),
        **_norm(model, "encoder/layer_norm", "encoder.ln_post"),
        **_norm(model, "decoder/layer_norm", "decoder.ln"),
    }
    for conv in ("conv1", "conv2"):
        weight = model.tensor(f"encoder/{conv}/weight")
        arrays[f"encoder.{conv}.weight"] = mx.contiguous(weight.swapaxes(1, 2))
        arrays[f"encoder.{conv}.bias"] = model.tensor(f"encoder/{conv}/bias")
    return arrays


def _block(model: Model, layer: str, block: str) -> dict[str, mx.array]:
    """Return self-attention and the two linear layers."""
    return {
        **_stacked(model, f"{layer}/self_attention/linear_0", f"{block}.attn", "query key value"),
        **_stacked(model, f"{layer}/self_attention/linear_1", f"{block}.attn", "out"),
        **_norm(model, f"{layer}/self_attention/layer_norm", f"{block}.attn_ln"),
        **_stacked(model, f"{layer}/ffn/linear_0", block, "mlp1"),
        **_stacked(model, f"{layer}/ffn/linear_1", block, "mlp2"),
        **_norm(model, f"{layer}/ffn/layer_norm", f"{block}.mlp_ln"),
    }


def _cross(model: Model, layer: str, block: str) -> dict[str, mx.array]:
    """Return the attention from text to audio."""
    attention = f"{block}.cross_attn"
    return {
        **_stacked(model, f"{layer}/attention/linear_0", attention, "query"),
        **_stacked(model, f"{layer}/attention/linear_1", attention, "key value"),
        **_stacked(model, f"{layer}/attention/linear_2", attention, "out"),
        **_norm(model, f"{layer}/attention/layer_norm", f"{block}.cross_attn_ln"),
    }


def _stacked(model: Model, linear: str, owner: str, names: str) -> dict[str, mx.array]:
    """Return the projections that one linear layer stacks, cut into equal rows."""
    projections = names.split()
    rows, _ = model.shape(f"{linear}/weight", 2)
    size, rest = divmod(rows, len(projections))
    if rest:
        raise InvalidModel(
            f"{model.name}: {linear}/weight", f"must stack {len(projections)} projections", rows
        )
    arrays = {}
    for index, name in enumerate(projections):
        cut = slice(index * size, (index + 1) * size)
        arrays[f"{owner}.{name}.weight"] = model.tensor(f"{linear}/weight", cut)
        # A key's bias would add the same to all scores of a query: Whisper has none.
        if name != "key":
            arrays[f"{owner}.{name}.bias"] = model.tensor(f"{linear}/bias", cut)
    return arrays


def _norm(model: Model, layer_norm: str, name: str) -> dict[str, mx.array]:
    return {
        f"{name}.weight": model.tensor(f"{layer_norm}/gamma"),
        f"{name}.bias": model.tensor(f"{layer_norm}/beta"),
    }


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InvalidModel(str(path), "cannot be read", str(error)) from error
