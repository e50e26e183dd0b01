"""Where settings come from: a file, the environment and arguments, laid over each other key by key.

Each key is noted with its origin, so that an error can say which file or variable is wrong.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from producer.errors import InvalidSettings
from producer.masking import mask_secrets

ENV_PREFIX = "SCRIBEFARM_"
ENV_DELIMITER = "__"
SETTINGS_VARIABLE = "SCRIBEFARM_SETTINGS"
DEFAULT_FILE = Path("settings.toml")
# What a variable says for no value.
NONE = "null"


class Layers(NamedTuple):
    """All sources in one.

    Attributes:
        values: Sections of keys and values, not validated.
        origins: Of each given dotted key: `init`, `env NAME` or `file PATH`.
        file: The settings file that was read.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    file: Path | None


def read_layers(
    model: type[BaseModel], path: Path | None, init: Mapping[str, Mapping[str, Any]]
) -> Layers:
    """Return what file, environment and `init` say; the later ones win.

    Raises:
        InvalidSettings: a named file is absent or not TOML, a variable with our prefix sets nothing.
    """
    file = _find_file(path)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        *([(f"file {file}", _read_file(file))] if file else []),
        ("env", _read_environment(model)),
        ("init", init),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(merged, origins, origin, layer)
    return Layers(merged, origins, file)


def keys_of(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield section and key of every setting there is."""
    for section, field in model.model_fields.items():
        for key in type(field.default).model_fields:
            yield section, key


def variable_of(dotted: str) -> str:
    """Return the environment variable of a dotted key."""
    return ENV_PREFIX + dotted.replace(".", ENV_DELIMITER).upper()


def invalid_settings(
    model: type[BaseModel], error: ValidationError, origins: Mapping[str, str]
) -> InvalidSettings:
    """Name the first wrong setting: where it stands, its key, the bound and the value."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path[:2])
    origin = origins.get(dotted) or next(
        (found for key, found in origins.items() if key.startswith(f"{dotted}.")), "settings"
    )
    constraint = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        keys = [f"{section}.{key}" for section, key in keys_of(model)]
        constraint = "no such setting" + _hint(
            dotted, keys if "." in dotted else [*model.model_fields]
        )
    # Pydantic ends the path of a union with the member's type, which is no key of ours.
    key = ".".join(part for at, part in enumerate(path) if at < 2 or part.isdigit())  # noqa: PLR2004
    value = first["input"]
    # A whole section as the value is no help; the message names the keys.
    shown = None if isinstance(value, Mapping | BaseModel) else mask_secrets(str(value))
    return InvalidSettings(f"{origin}: {key}", constraint, shown)


def _find_file(path: Path | None) -> Path | None:
    named = path or os.environ.get(SETTINGS_VARIABLE)
    if named:
        origin = "--settings" if path else SETTINGS_VARIABLE
        if not Path(named).is_file():
            raise InvalidSettings(origin, "must name an existing file", str(named))
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.is_file() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidSettings(str(file), f"must be readable: {error.strerror}") from error
    except ValueError as error:
        raise InvalidSettings(str(file), f"must be TOML: {error}") from error


def _read_environment(model: type[BaseModel]) -> dict[str, Any]:
    """Return what variables with our prefix say; a key's own wins over its section's."""
    found: dict[str, Any] = {}
    ours = [name for name in os.environ if name.upper().startswith(ENV_PREFIX)]
    # A section's variable is shorter than those of its keys, so it comes first.
    for variable in sorted(ours, key=len):
        if variable.upper() == SETTINGS_VARIABLE:
            continue
        section, key = _known_keys(model, variable)
        # A compose file hands over an unset variable as an empty one.
        if not os.environ[variable]:
            continue
        value = _read_variable(model, variable, section, key)
        below = found.get(section)
        found[section] = (
            {**(below if isinstance(below, dict) else {}), key: value} if key else value
        )
    return found


def _known_keys(model: type[BaseModel], variable: str) -> tuple[str, str]:
    """Return section and key of a variable, the key empty for a section; refuse one of neither."""
    known = [variable_of(f"{section}.{key}") for section, key in keys_of(model)]
    known += [variable_of(section) for section in model.model_fields]
    name = variable.upper()
    if name not in known:
        raise InvalidSettings(f"env {variable}", "no such setting" + _hint(name, known))
    section, _, key = name.removeprefix(ENV_PREFIX).lower().partition(ENV_DELIMITER)
    return section, key


def _read_variable(model: type[BaseModel], variable: str, section: str, key: str) -> Any:
    text = os.environ[variable]
    if text == NONE:
        return None
    fields = type(model.model_fields[section].default).model_fields
    if key and not _is_json(fields[key].annotation):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        example = 'like ["a", "b"]' if key else 'like {"key": 1}'
        shown = mask_secrets(text)
        raise InvalidSettings(f"env {variable}", f"must be JSON, {example}", shown) from error


def _is_json(annotation: Any) -> bool:
    """Return whether values of a type are lists or tables, which a variable holds as JSON."""
    origin = get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, tuple | list | dict | BaseModel):
        return True
    return any(_is_json(part) for part in get_args(annotation) if not isinstance(part, str))


def _hint(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _merge(
    merged: dict[str, Any], origins: dict[str, str], origin: str, layer: Mapping[str, Any]
) -> None:
    """Lay one source over the ones below it, key by key, and note who gave each key."""
    for section, values in layer.items():
        if not isinstance(values, Mapping):
            merged[section] = values
            origins[section] = _origin_of(origin, section)
            continue
        below = merged.get(section)
        merged[section] = {**(below if isinstance(below, dict) else {}), **values}
        for key in values:
            origins[f"{section}.{key}"] = _origin_of(origin, f"{section}.{key}")


def _origin_of(origin: str, dotted: str) -> str:
    if origin != "env":
        return origin
    given = {name.upper(): name for name in os.environ}
    section = dotted.partition(".")[0]
    return f"env {given.get(variable_of(dotted)) or given.get(variable_of(section))}"
