"""Which family opens a model: told by its name in `MODELS`, else by its configuration."""

from pathlib import Path

from worker.models import FAMILIES, MODELS
from worker.models.hub import fetch, is_hub_id, read_config


def family_module(name: str, revision: str | None = None) -> str:
    """Return the module that loads a model; for a hub id the model is fetched.

    Whether the model is sound is for that module to say.

    Args:
        name: A packaged name, a folder, an archive or a hub id.
        revision: Hub branch, tag or commit.

    Raises:
        InvalidModel: the hub has no such model or revision, or denies access to it.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
    """
    listed = MODELS.get(name)
    if listed is not None:
        return listed.family
    path = Path(name).expanduser()
    if not path.exists() and is_hub_id(name):
        path, _ = fetch(name, revision)
    config = read_config(path)
    for family in FAMILIES:
        if family.is_ours(config) or (not config and _is_archive(path, family.archive)):
            return family.module
    return FAMILIES[-1].module


def _is_archive(path: Path, ending: str) -> bool:
    """Return whether a path is a model in one file, or a folder that holds one."""
    if not ending:
        return False
    return path.suffix == ending if path.is_file() else any(path.glob(f"*{ending}"))
