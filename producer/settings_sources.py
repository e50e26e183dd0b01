"""Where settings come from: a file, the environment and arguments, laid over each other key by key.

Each key is noted with its origin, so that an error can say which file or variable is wrong.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from producer.errors import InvalidSettings
from producer.hints import hint
from producer.masking import mask_secrets

ENV_PREFIX = "SCRIBEFARM_"
ENV_DELIMITER = "__"
SETTINGS_VARIABLE = "SCRIBEFARM_SETTINGS"
DEFAULT_FILE = Path("settings.toml")


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
        constraint = "no such setting" + hint(
            dotted, keys if "." in dotted else [*model.model_fields]
        )
    if first["type"] == "model_type" and dotted in model.model_fields:
        constraint = f"must be a section with keys, [{dotted}]"
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
    ours = [
        name
        for name in os.environ
        if name.upper().startswith(ENV_PREFIX) and name.upper() != SETTINGS_VARIABLE
    ]
    if not ours:
        return {}
    for variable in ours:
        _check_variable(model, variable)
    # Slow to import, see there.
    from producer.environment import read_environment  # noqa: PLC0415

    return read_environment(model)


def _check_variable(model: type[BaseModel], variable: str) -> None:
    """Refuse a variable with our prefix that sets nothing."""
    known = [variable_of(f"{section}.{key}") for section, key in keys_of(model)]
    known += [variable_of(section) for section in model.model_fields]
    name = variable.upper()
    if name not in known:
        raise InvalidSettings(f"env {variable}", "no such setting" + hint(name, known))
    section, _, key = name.removeprefix(ENV_PREFIX).lower().partition(ENV_DELIMITER)
    default = model.model_fields[section].default
    if os.environ[variable] and (not key or isinstance(getattr(default, key), tuple)):
        _check_json(variable, 'like {"key": 1}' if not key else 'like ["a", "b"]')


def _check_json(variable: str, example: str) -> None:
    try:
        json.loads(os.environ[variable])
    except ValueError as error:
        shown = mask_secrets(os.environ[variable])
        raise InvalidSettings(f"env {variable}", f"must be JSON, {example}", shown) from error


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
