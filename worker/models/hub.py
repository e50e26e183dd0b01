"""Models from the Hugging Face hub: pinned on first use, kept on disk, resumed when cut off."""

import re
from pathlib import Path

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

from producer.errors import InvalidModel, SourceUnreachable

# What the three formats need; the rest of a repository (torch, flax, onnx, ...) stays there.
_FILES = [
    "config.json",
    "generation_config.json",
    "model.bin",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
    "weights.safetensors",
    "weights.npz",
]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_REFUSED = (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError, HFValidationError)
_UNREACHABLE = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError)


def is_hub_id(name: str) -> bool:
    """Tell whether a name has the form `owner/repository`."""
    return _HUB_ID.fullmatch(name) is not None


def fetch(
    name: str,
    revision: str | None = None,
    cache_dir: Path | None = None,
    *,
    refresh: bool = False,
) -> tuple[Path, str]:
    """Return the folder and the commit of a hub model, downloading what is not there yet.

    A model that was fetched before is taken from the disk without asking the hub, so an archive
    is transcribed with one set of weights even if the branch moves on.

    Args:
        name: Hub id, `owner/repository`.
        revision: Branch, tag or commit; None is the main branch.
        cache_dir: Where files are kept; None takes huggingface_hub's own.
        refresh: Ask the hub where the branch is now.

    Raises:
        InvalidModel: the hub has no such model or revision, or does not give it to us.
        SourceUnreachable: the hub does not answer, and the model is not on disk.
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
        raise SourceUnreachable(f"hub: {name}", "must be reachable once", reason) from error
    return Path(folder), Path(folder).name


def _cached(name: str, revision: str | None, cache_dir: Path | None) -> tuple[Path, str] | None:
    """Return what an earlier download left, if it is complete."""
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


def fetched() -> list[tuple[str, str]]:
    """Return hub id and size on disk of every Whisper model that was fetched, sorted."""
    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    models = (repo for repo in repositories if repo.repo_type == "model")
    return sorted(
        (repo.repo_id, repo.size_on_disk_str) for repo in models if "whisper" in repo.repo_id
    )
