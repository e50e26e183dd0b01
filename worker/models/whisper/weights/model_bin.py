"""CTranslate2's file format `model.bin`, read without knowing what the tensors mean.

It is little-endian: u32 format version, spec name, u32 spec revision, u32 number of variables; for
each its name, u8 rank, u32 sizes, u8 type, u32 bytes and the data; then the aliases. A string is
u16 bytes and the bytes with a closing NUL. Quantized rows are integers to be divided by their
`weight_scale`. (CTranslate2, `src/models/model.cc`.)
"""

import mmap
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

_VERSIONS = (4, 5, 6)  # since 4, a variable has its type and size in bytes
_MAX_VARIABLES = 1 << 16
_MAX_RANK = 8
_BFLOAT16 = 5
# By CTranslate2's number of the type. NumPy has no bfloat16; its bits are carried as uint16.
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16, np.uint16)
_FLOATS = {0: mx.float32, 4: mx.float16, _BFLOAT16: mx.bfloat16}
_QUANTIZED = (np.dtype(np.int8), np.dtype(np.int16))

Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """One tensor or number of the file.

    Attributes:
        name: In CTranslate2's words.
        shape: Empty for a number.
        type_number: CTranslate2's number of the type.
        offset: Of its first byte in the file.
        num_bytes: Size of its data.
    """

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    num_bytes: int


class Parts:
    """One or more files, mapped into memory and read as if they were one."""

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

        Args:
            offset: Of the first byte.
            num_bytes: How many.
            what: What is read, named in the error.

        Raises:
            InvalidModel: the file ends too early.
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
    """Reads the fields of a header one after another."""

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


class ModelBin:
    """An opened `model.bin`, whole or in parts; tensors are read when they are asked for.

    Attributes:
        name: Path of the file, for errors.
        variables: By name; aliases name the same variable.
    """

    def __init__(self, paths: Sequence[Path], spec: str, dtype_of: str) -> None:
        """Read the header and the place of every variable.

        Args:
            paths: The file, or its parts in order.
            spec: Name of the architecture.
            dtype_of: Variable that is never quantized; dequantized tensors take its type.

        Raises:
            InvalidModel: not a CTranslate2 model of that architecture, truncated, or damaged.
        """
        self._parts = Parts(paths)
        self.name = self._parts.name
        self._dtype_of = dtype_of
        cursor = _Cursor(self._parts)
        version = cursor.number("I", "format version")
        if version not in _VERSIONS:
            raise InvalidModel(f"{self.name}: format version", "must be 4 to 6", version)
        found_spec = cursor.string("spec name")
        if found_spec != spec:
            raise InvalidModel(f"{self.name}: spec name", f"must be {spec}", found_spec)
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

    def _variable(self, name: str) -> Variable:
        if name not in self.variables:
            raise InvalidModel(f"{self.name}: {name}", "is missing")
        return self.variables[name]

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Return a variable's shape.

        Raises:
            InvalidModel: the variable is missing or of another rank.
        """
        shape = self._variable(name).shape
        if len(shape) != rank:
            raise InvalidModel(f"{self.name}: {name}", f"must have {rank} axes", shape)
        return shape

    def scalar(self, name: str) -> int:
        """Return an integer that describes the model.

        Raises:
            InvalidModel: the variable is missing or is not one integer.
        """
        values = self._raw(self._variable(name)).reshape(-1)
        if values.size != 1 or values.dtype.kind == "f":
            raise InvalidModel(f"{self.name}: {name}", "must be one integer", values.shape)
        return int(values[0])

    def tensor(self, name: str, rows: slice = slice(None)) -> mx.array:
        """Return some rows of a tensor; quantized ones are divided by their scales.

        Raises:
            InvalidModel: the variable or its scales are missing, or it is a scalar.
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

    def array(self, name: str) -> Array | None:
        """Return a variable as it is stored; None if it is missing, or bfloat16."""
        variable = self.variables.get(name)
        if variable is None or variable.type_number == _BFLOAT16:
            return None
        return self._raw(variable)

    def _scales(self, quantized: Variable) -> Array:
        """Return a float32 scale for each row; int16 models have one for all."""
        name, num_rows = f"{quantized.name}_scale", quantized.shape[0]
        scales = self._raw(self._variable(name)).astype(np.float32)
        if scales.shape not in {(), (num_rows,)}:
            raise InvalidModel(f"{self.name}: {name}", f"must have {num_rows} rows", scales.shape)
        return np.broadcast_to(scales, num_rows)

    @property
    def _dtype(self) -> mx.Dtype:
        return _FLOATS.get(self._variable(self._dtype_of).type_number, mx.float32)

    def unread(self) -> list[str]:
        """Return the names, sorted, of tensors that were not asked for; scales do not count."""
        return sorted(
            name
            for name, variable in self.variables.items()
            if variable.shape and name not in self._read and not name.endswith("_scale")
        )

    def _raw(self, variable: Variable) -> Array:
        data = self._parts.read(variable.offset, variable.num_bytes, variable.name)
        return data.view(_TYPES[variable.type_number]).reshape(variable.shape)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InvalidModel(str(path), "cannot be read", str(error)) from error
