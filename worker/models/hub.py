"""Models from the Hugging Face hub: pinned on first use, kept on disk, resumed when cut off."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants, scan_cache_dir, snapshot_download
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
    # The model card, for its licence.
    "README.md",
]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
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
    try:
        folder = snapshot_download(
            name, revision=revision, cache_dir=cache_dir, allow_patterns=_FILES
        )
    except _REFUSED as error:
        wanted = name if revision is None else f"{name} at {revision}"
        raise InvalidModel("model", "must be a model that the hub gives us", wanted) from error
    except _UNREACHABLE as error:
        reason = str(error).splitlines()[0]
        raise ModelUnreachable(f"hub: {name}", "must be reachable once", reason) from error
    return Path(folder), Path(folder).name


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
    return Path(folder), Path(folder).name


def fetched(is_ours: Callable[[dict[str, Any]], bool]) -> list[tuple[str, str, str | None]]:
    """Return hub id, size on disk and licence of the models that were fetched, sorted.

    Args:
        is_ours: Whether a `config.json` is that of a model that we read: other programs keep
            their models in the same cache.
    """
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    found = []
    for repo in repositories:
        folders = [revision.snapshot_path for revision in repo.revisions]
        if repo.repo_type == "model" and any(is_ours(_config(folder)) for folder in folders):
            licences = filter(None, map(licence_of, folders))
            found.append((repo.repo_id, repo.size_on_disk_str, next(licences, None)))
    return sorted(found)


def licence_of(folder: Path) -> str | None:
    """Return the licence that a fetched model's card states in its header, if it does."""
    try:
        card = (folder / "README.md").read_text(errors="replace")
    except OSError:
        return None
    header = card.split("---")[1] if card.startswith("---") else ""
    found = re.search(r"^license:[ \t]*(\S+)[ \t]*$", header, re.MULTILINE)
    return found[1].strip("\"'") if found else None


def _config(folder: Path) -> dict[str, Any]:
    """Return a folder's `config.json`; an empty one if there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}
