"""PyTorch's checkpoint format, read without torch: a ZIP archive of a pickle and its storages.

A pickle is a program. This one may rebuild tensors from storages of the same archive, and nothing
else: any other name in it is refused before it is called. (PyTorch, `torch/serialization.py`.)
"""

import collections
import io
import math
import pickle
import zipfile
from dataclasses import dataclass
from typing import IO, Any

import mlx.core as mx
import numpy as np

from producer.errors import InvalidModel

# A checkpoint of 700 tensors has 200 KB.
_MAX_PICKLE_BYTES = 64_000_000
_MAX_RANK = 8
# Storages by the class that names them. NumPy has no bfloat16; its bits are carried as uint16.
_STORAGES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype("<u2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


@dataclass(frozen=True)
class Storage:
    """Numbers of the archive.

    Attributes:
        kind: Name of PyTorch's class.
        key: Name of its file in the archive.
        count: Numbers in it.
    """

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor: a part of a storage, strides in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorView:
    """Stand in for `torch._utils._rebuild_tensor_v2`; the rest is about gradients."""
    numbers = [offset, *shape, *strides]
    is_sound = isinstance(storage, Storage) and len(shape) == len(strides) <= _MAX_RANK
    if not is_sound or not all(type(each) is int and each >= 0 for each in numbers):
        raise pickle.UnpicklingError("a tensor's place is no place")
    return TensorView(storage, offset, tuple(shape), tuple(strides))


def _parameter(view: Any, *_: Any) -> Any:
    """Stand in for `torch._utils._rebuild_parameter`."""
    return view


class _KindOfStorage:
    """Stands in for a storage's class; a pickle that calls it is refused."""

    def __init__(self, name: str) -> None:
        self.name = name


class _TensorsOnly(pickle.Unpickler):
    """Unpickles dictionaries of tensors; every name that a pickle may use is here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in {"_rebuild_tensor_v2", "_rebuild_parameter"}:
            return _view if name == "_rebuild_tensor_v2" else _parameter
        if module == "torch" and name in _STORAGES:
            return _KindOfStorage(name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, pid: Any) -> Storage:
        word, kind, key, _location, count = pid
        if word != "storage" or not isinstance(kind, _KindOfStorage) or type(count) is not int:
            raise pickle.UnpicklingError("a storage of no known kind")
        return Storage(kind.name, str(key), count)


class TorchFile:
    """An opened checkpoint; tensors are read when they are asked for.

    Args:
        file: Seekable; it must stay open.
        name: Of the file, for errors.

    Raises:
        InvalidModel: no checkpoint of PyTorch's, damaged, or one that would run code.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        try:
            self._archive = zipfile.ZipFile(file)
            self._folder, pickled = self._pickle()
            loaded = _TensorsOnly(io.BytesIO(pickled)).load()
        except InvalidModel:
            raise
        except Exception as error:  # a damaged pickle raises nearly anything
            raise InvalidModel(name, "must be a checkpoint of tensors alone", str(error)) from error
        if not isinstance(loaded, dict):
            raise InvalidModel(name, "must be a mapping of tensors", type(loaded).__name__)
        self._views = {
            str(key): view for key, view in loaded.items() if isinstance(view, TensorView)
        }

    def _pickle(self) -> tuple[str, bytes]:
        """Return the folder within the archive, and its pickle."""
        entries = self._archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
            raise InvalidModel(self.name, "must hold one data.pkl of a checkpoint", len(pickles))
        folder = pickles[0].filename.removesuffix("data.pkl")
        self._refuse_big_endian(folder)
        return folder, self._archive.read(pickles[0])

    def _refuse_big_endian(self, folder: str) -> None:
        name = f"{folder}byteorder"
        if name in self._archive.namelist() and self._archive.read(name).strip() != b"little":
            raise InvalidModel(self.name, "must be little-endian")

    @property
    def names(self) -> list[str]:
        """Names of its tensors."""
        return list(self._views)

    def array(self, name: str) -> mx.array:
        """Return a tensor.

        Raises:
            InvalidModel: its numbers are missing, damaged or too few.
        """
        view, context = self._views[name], f"{self.name}: {name}"
        numbers = self._numbers(view.storage, context)
        last = view.offset + sum(
            (size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)
        )
        if math.prod(view.shape) and last >= numbers.size:
            raise InvalidModel(context, f"breaks off: {last + 1} numbers", numbers.size)
        strides = [stride * numbers.itemsize for stride in view.strides]
        laid_out = np.lib.stride_tricks.as_strided(numbers[view.offset :], view.shape, strides)
        array = mx.array(np.ascontiguousarray(laid_out).reshape(view.shape))
        return array.view(mx.bfloat16) if view.storage.kind == "BFloat16Storage" else array

    def _numbers(self, storage: Storage, context: str) -> Any:
        dtype = _STORAGES[storage.kind]
        try:
            entry = self._archive.getinfo(f"{self._folder}data/{storage.key}")
            if entry.file_size < storage.count * dtype.itemsize:
                limit = f"breaks off: {storage.count * dtype.itemsize} bytes"
                raise InvalidModel(context, limit, entry.file_size)
            data = self._archive.read(entry)
        except (KeyError, OSError, EOFError, zipfile.BadZipFile, RuntimeError) as error:
            raise InvalidModel(context, "cannot be read", str(error)) from error
        return np.frombuffer(data, dtype, storage.count)
