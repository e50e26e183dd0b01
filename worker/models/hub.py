"""Models from the Hugging Face hub: pinned on first use, kept on disk, resumed when cut off."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import CachedRepoInfo, constants, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from producer.errors import InvalidModel, ModelUnreachable

# Files of the formats that we read; others (torch, flax, onnx, ...) are not downloaded.
_FILES = [
    "config.json",
    "generation_config.json",
    "model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    "weights.safetensors",
    "weights.npz",
    # What features are made of, and the pieces of a vocabulary.
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer.model",
    # The model card, for its licence.
    "README.md",
]
# Taken only where there is nothing else to read: NVIDIA's repositories hold the weights twice.
_ARCHIVES = ["*.nemo"]
_WEIGHTS = (".safetensors", ".npz", ".bin", ".nemo")
# A path like ./NAME is none.
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_REFUSED = (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError)
_UNREACHABLE = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError)


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form `owner/repository`."""
    return _HUB_ID.fullmatch(name) is not None


def fetch(
    name: str,
    revision: str | None = None,
    cache_dir: Path | None = None,
    *,
    refresh: bool = False,
) -> tuple[Path, str]:
    """Return the folder and the commit of a hub model, downloading what is missing.

    A model that was fetched before is taken from the disk without asking the hub, so an archive
    is transcribed with the same weights even if the branch moves on.

    Args:
        name: Hub id, `owner/repository`.
        revision: Branch, tag or commit; None is the main branch.
        cache_dir: Folder for the files; None takes huggingface_hub's own.
        refresh: Ask the hub for the branch's present commit, also if the model is on disk.

    Raises:
        InvalidModel: the hub has no such model or revision, or denies access to it.
        ModelUnreachable: the hub does not answer, and the model is not on disk.
    """
    if not refresh and (found := _cached(name, revision, cache_dir)):
        return found
    folder = _download(name, revision, cache_dir, _FILES)
    if not _has_weights(folder):
        folder = _download(name, revision, cache_dir, _ARCHIVES)
    return folder, folder.name


def _download(name: str, revision: str | None, cache_dir: Path | None, patterns: list[str]) -> Path:
    """Return the folder of a hub model with the files of these names."""
    try:
        folder = snapshot_download(
            name, revision=revision, cache_dir=cache_dir, allow_patterns=patterns
        )
    except _REFUSED as error:
        wanted = name if revision is None else f"{name} at {revision}"
        raise InvalidModel("model", "must be a model that the hub gives us", wanted) from error
    except _UNREACHABLE as error:
        reason = str(error).splitlines()[0]
        raise ModelUnreachable(f"hub: {name}", "must be reachable once", reason) from error
    return Path(folder)


def has_archive(folder: Path) -> bool:
    """Return whether a folder's model lies in an archive, its configuration too."""
    archives = (path for pattern in _ARCHIVES for path in folder.glob(pattern))
    return not (folder / "config.json").exists() and any(archives)


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in _WEIGHTS for path in folder.glob("*"))


def _cached(name: str, revision: str | None, cache_dir: Path | None) -> tuple[Path, str] | None:
    """Return the folder and commit of an earlier download, if it is complete."""
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=_FILES,
            local_files_only=True,
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return (Path(folder), Path(folder).name) if _has_weights(Path(folder)) else None


class Fetched(NamedTuple):
    """A model in the hub's cache.

    Attributes:
        name: Hub id.
        num_bytes: On disk, all revisions together.
        config: Of its latest revision that has one; empty if none can be read.
        licence: As its card states it; None if it does not.
    """

    name: str
    num_bytes: int
    config: dict[str, Any]
    licence: str | None


def fetched(is_ours: Callable[[dict[str, Any]], bool]) -> list[Fetched]:
    """Return the models that were fetched, sorted by name.

    Args:
        is_ours: Whether a `config.json` is that of a model that we read: other programs keep
            their models in the same cache. An archive, which has none outside, is taken for ours.
    """
    found = []
    for repo in _repositories():
        revisions = sorted(repo.revisions, key=lambda each: each.last_modified, reverse=True)
        folders = [revision.snapshot_path for revision in revisions]
        config = next(filter(is_ours, map(read_config, folders)), None)
        if config is None and any(has_archive(folder) for folder in folders):
            config = {}
        if config is not None:
            licences = filter(None, map(licence_of, folders))
            found.append(Fetched(repo.repo_id, repo.size_on_disk, config, next(licences, None)))
    return sorted(found)


def remove(name: str) -> int:
    """Delete a model from the hub's cache, with all its revisions; return the bytes that are freed.

    Raises:
        InvalidModel: the cache does not have it, or it could not be deleted.
    """
    for repo in _repositories():
        if repo.repo_id == name:
            # Alone: a copy of a repository has the same commits.
            alone = replace(scan_cache_dir(constants.HF_HUB_CACHE), repos=frozenset({repo}))
            commits = [revision.commit_hash for revision in repo.revisions]
            strategy = alone.delete_revisions(*commits)
            strategy.execute()
            if repo.repo_path.exists():
                raise InvalidModel("model", f"could not be deleted: {repo.repo_path}", name)
            return int(strategy.expected_freed_size)
    raise InvalidModel("model", "must be in the hub's cache", name)


def _repositories() -> list[CachedRepoInfo]:
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    return [repo for repo in repositories if repo.repo_type == "model"]


def licence_of(folder: Path) -> str | None:
    """Return the licence that a fetched model's card states in its header, if it does."""
    try:
        card = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return None
    header = card.split("---")[1] if card.startswith("---") else ""
    found = re.search(r"^license:[ \t]*(\S+)[ \t]*$", header, re.MULTILINE)
    return found[1].strip("\"'") if found else None


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's `config.json`; an empty one if there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
