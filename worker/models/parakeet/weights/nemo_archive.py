"""NeMo's `.nemo` archives: a tar of a configuration, a checkpoint and a tokenizer. No torch, no NeMo."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import mlx.core as mx
import yaml

from producer.errors import InvalidModel
from worker.models.parakeet.vocabulary import Vocabulary
from worker.models.parakeet.weights.tokens import from_sentencepiece
from worker.models.parakeet.weights.torch_file import TorchFile

_CONFIG = "model_config.yaml"
_CHECKPOINT = "model_weights.ckpt"
_TOKENIZER = "tokenizer.model"
# A configuration with 8192 pieces has 200 KB.
_MAX_TEXT_BYTES = 16_000_000
_MAX_MEMBERS = 1000


class _Part(io.RawIOBase):
    """A part of a file, as a file of its own."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        count = max(0, min(len(buffer), self._size - self._at))
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(frozen=True)
class Opened:
    """The content of an archive, not yet checked.

    Attributes:
        config: Of its YAML.
        arrays: NeMo's names to arrays in PyTorch's layout.
        vocabulary: Of its tokenizer; None without one.
    """

    config: dict[str, Any]
    arrays: dict[str, mx.array]
    vocabulary: Vocabulary | None


def open_nemo(path: Path) -> Opened:
    """Read an archive; nothing is unpacked to the disk.

    Raises:
        InvalidModel: no such archive, a compressed one, damaged, or one that would run code.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = _members(archive, path)
            config = _config(_bytes(archive, members, _CONFIG, path), f"{path}: {_CONFIG}")
            vocabulary = None
            if named := next((name for name in members if name.endswith(_TOKENIZER)), None):
                data = _bytes(archive, members, named, path)
                vocabulary = from_sentencepiece(data, f"{path}: {named}")
            member = _member(members, _CHECKPOINT, path)
            part = io.BufferedReader(_Part(file, member.offset_data, member.size), 1 << 20)
            checkpoint = TorchFile(part, f"{path}: {_CHECKPOINT}")
            arrays = {name: checkpoint.array(name) for name in checkpoint.names}
            mx.eval(arrays)
    except tarfile.TarError as error:
        raise InvalidModel(
            str(path), "must be an uncompressed .nemo archive", str(error)
        ) from error
    return Opened(config, arrays, vocabulary)


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Return the files of an archive by the last part of their names."""
    members: dict[str, tarfile.TarInfo] = {}
    for count, member in enumerate(archive):
        if count == _MAX_MEMBERS:
            raise InvalidModel(str(path), f"must have at most {_MAX_MEMBERS} files")
        if member.isreg() and not member.issparse():
            members[Path(member.name).name] = member
    return members


def _member(members: dict[str, tarfile.TarInfo], name: str, path: Path) -> tarfile.TarInfo:
    if name not in members:
        raise InvalidModel(f"{path}: {name}", "is missing")
    return members[name]


def _bytes(
    archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, path: Path
) -> bytes:
    member = _member(members, name, path)
    if member.size > _MAX_TEXT_BYTES:
        raise InvalidModel(f"{path}: {name}", f"must have <= {_MAX_TEXT_BYTES} bytes", member.size)
    file = archive.extractfile(member)
    data = file.read() if file is not None else b""
    if len(data) < member.size:
        raise InvalidModel(f"{path}: {name}", f"breaks off: {member.size} bytes", len(data))
    return data


def _config(data: bytes, source: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidModel(source, "must be YAML", reason) from error
    if not isinstance(config, dict):
        raise InvalidModel(source, "must be a mapping", type(config).__name__)
    return config
