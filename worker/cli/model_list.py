"""Which models there are: packaged, fetched from the hub, or to be fetched; and who uses them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from producer.model_names import KNOWN_MODELS, KnownModel, knows_english_alone, short_names
from producer.model_users import model_users
from producer.settings import Settings
from worker.models import FAMILIES, MODELS
from worker.models.hub import Fetched, fetched


class ModelRow(BaseModel):
    """A model that a worker here has, or could fetch.

    Attributes:
        name: What the worker loads.
        short_names: Other names for it.
        here: Where it is: `package`, `hub cache`, `folder`, or `no`.
        num_languages: 1 is English; None if that is not known.
        licence: Of the weights; None if that is not known.
        attribution: Whom the licence asks to name, where that is known.
        used_by: `settings`, and the names of the workers that have it pinned.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    short_names: list[str] = []
    here: Literal["package", "hub cache", "folder", "no"]
    num_bytes: int | None = Field(None, description="On disk; if it is not here, about.")
    num_languages: int | None = None
    licence: str | None = None
    attribution: str | None = None
    requirement: str | None = Field(None, description="Of a packaged model: what pip installs.")
    used_by: list[str] = []


def model_rows(settings: Settings) -> list[ModelRow]:
    """Return all models that are here, and those with a short name that are not."""
    users = model_users(settings)
    rows = {row.name: row for row in (*_known(), *_packaged(), *_fetched())}
    for name in users.keys() - rows.keys():
        rows[name] = _other(name)
    return [row.model_copy(update={"used_by": users.get(row.name, [])}) for row in _in_order(rows)]


def _in_order(rows: dict[str, ModelRow]) -> list[ModelRow]:
    """Return what is here first, then the known ones from small to large."""
    known = [known.name for known in KNOWN_MODELS.values()]
    last = len(known)
    return sorted(
        rows.values(),
        key=lambda row: (
            row.here == "no",
            known.index(row.name) if row.name in known else last,
            row.name,
        ),
    )


def _packaged() -> Iterator[ModelRow]:
    for name, listed in MODELS.items():
        known = KNOWN_MODELS.get(name)
        yield ModelRow(
            name=name,
            short_names=short_names(name),
            here="package" if listed.is_installed() else "no",
            num_bytes=listed.size_bytes() or (known.num_bytes if known else None),
            num_languages=known.num_languages if known else None,
            licence=listed.licence,
            requirement=listed.requirement,
        )


def _fetched() -> Iterator[ModelRow]:
    for model in fetched(_is_read):
        known = _known_model(model.name)
        yield ModelRow(
            name=model.name,
            short_names=short_names(model.name),
            here="hub cache",
            num_bytes=model.num_bytes,
            num_languages=_languages_of(model),
            licence=model.licence or (known.licence if known else None),
            attribution=(known.attribution or None) if known else None,
        )


def _known() -> Iterator[ModelRow]:
    """Yield every model with a short name, as if it were not here."""
    for known in dict.fromkeys(KNOWN_MODELS.values()):
        yield ModelRow(
            name=known.name,
            short_names=short_names(known.name),
            here="no",
            num_bytes=known.num_bytes,
            num_languages=known.num_languages,
            licence=known.licence,
            attribution=known.attribution or None,
        )


def _other(name: str) -> ModelRow:
    """Return the row of a model that only its users know of: a folder, or another machine's."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return ModelRow(
            name=name, here="no", num_languages=1 if knows_english_alone(name) else None
        )
    num_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return ModelRow(name=name, here="folder", num_bytes=num_bytes)


def _is_read(config: dict[str, Any]) -> bool:
    return any(family.is_ours(config) for family in FAMILIES)


def _languages_of(model: Fetched) -> int | None:
    if knows_english_alone(model.name):
        return 1
    family = next((family for family in FAMILIES if family.is_ours(model.config)), None)
    return family.num_languages(model.config) if family else None


def _known_model(name: str) -> KnownModel | None:
    return next((known for known in KNOWN_MODELS.values() if known.name == name), None)
