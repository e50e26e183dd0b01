"""Every knob of producer and worker: init > environment > settings.toml > defaults.

The file is `./settings.toml`, or the one that $SCRIBEFARM_SETTINGS or `--settings` names. The
variable for `queue.max_queued` is `SCRIBEFARM_QUEUE__MAX_QUEUED`; values that are not plain text
or numbers are written as JSON, and `null` stands for none. What is misspelt or out of bounds is
never ignored.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from producer.errors import InvalidSettings
from producer.job import Options

ENV_PREFIX = "SCRIBEFARM_"
ENV_DELIMITER = "__"
SETTINGS_VARIABLE = "SCRIBEFARM_SETTINGS"
DEFAULT_FILE = Path("settings.toml")
DEFAULT_ORIGIN = "default"
# A worker that misses one beat must not lose its lease to it.
BEATS_PER_LEASE = 2

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(_Section):
    """Where the server is; without a URL the embedded one is used."""

    url: SecretStr | None = Field(
        None, min_length=1, description="redis://, rediss:// or unix://; may hold a password."
    )
    ca_certs: Path | None = Field(None, description="CA file that signed a rediss:// server.")
    certfile: Path | None = Field(None, description="Client certificate for rediss://.")
    keyfile: Path | None = Field(None, description="Key of the client certificate.")
    socket_timeout_s: Seconds = Field(5.0, description="A half-open connection is given up then.")
    embedded_dir: Path | None = Field(None, description="Data of the embedded server.")

    @model_validator(mode="after")
    def _key_with_certificate(self) -> Self:
        if self.keyfile is not None and self.certfile is None:
            msg = "redis.keyfile needs redis.certfile"
            raise ValueError(msg)
        return self


class QueueSettings(_Section):
    """How jobs wait and how long their results are kept."""

    result_ttl_s: int = Field(90 * 86400, gt=0, description="Transcripts are dropped after this.")
    job_ttl_s: int = Field(30 * 86400, gt=0, description="Queued jobs are dropped after this.")
    max_queued: int = Field(1_000_000, gt=0, description="Submit pushes back above this.")
    max_attempts: int = Field(3, ge=1, le=100, description="Tries of a job that may succeed later.")
    retry_delays_s: tuple[float, ...] = Field((10.0, 60.0, 300.0), min_length=1)
    poison_after: int = Field(2, ge=1, description="Workers one recording may kill.")


class AudioSettings(_Section):
    """Which recordings are accepted and how they are read."""

    roots: tuple[Path, ...] = Field((), description="Only files below these are read; empty: any.")
    max_audio_seconds: Seconds = Field(30.0, description="One pass through the pipeline.")
    max_file_seconds: Seconds = Field(12 * 3600.0, description="One recording.")
    long_audio: Literal["split", "reject"] = Field("split", description="Longer than one pass.")
    auto_resample: bool = True
    resampler: Literal["soxr_hq", "linear"] = "soxr_hq"
    threads: int = Field(2, ge=1, le=64, description="Recordings decoded at once.")


class ModelSettings(_Section):
    """Which weights are pinned."""

    name: str = Field("tiny.en", description="Packaged name, folder or hub id.")
    revision: str | None = Field(None, description="Hub commit; pinned on first use if None.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


class WorkerSettings(_Section):
    """One worker process: one model, many recordings in flight."""

    queues: tuple[str, ...] = Field(("high", "default", "low"), min_length=1)
    slots: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="Windows decoded together."
    )
    backend: Literal["auto", "mlx", "numpy"] = Field(
        "auto", description="What computes; auto: numpy on an x86-64 CPU in float32, else mlx."
    )
    memory_limit_bytes: int | None = Field(None, gt=0, description="MLX may use this much.")
    lease_s: Seconds = Field(30.0, description="A silent worker's jobs are taken over after this.")
    heartbeat_s: Seconds = 5.0
    reap_s: Seconds = Field(10.0, description="How often dead workers are looked for.")
    grace_s: float = Field(60.0, ge=0, description="SIGTERM: finish what fits in this.")
    deadline_factor: Seconds = Field(10.0, description="A job may take this times its duration.")
    min_deadline_s: Seconds = 600.0
    active_hours: str | None = Field(None, description='Like "22:00-06:00"; None: always.')
    timezone: str | None = Field(None, description="IANA name for active_hours; None: machine's.")

    @model_validator(mode="after")
    def _lease_outlives_beats(self) -> Self:
        if self.lease_s < BEATS_PER_LEASE * self.heartbeat_s:
            msg = f"worker.lease_s must be at least {BEATS_PER_LEASE} times worker.heartbeat_s"
            raise ValueError(msg)
        return self


class LogSettings(_Section):
    """How the worker speaks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field("auto", description="JSON off a terminal.")


class Settings(BaseSettings):
    """All settings of both programs; make them with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        # A compose file hands over an unset variable as an empty one.
        env_ignore_empty=True,
        env_parse_none_str="null",
        extra="forbid",
        frozen=True,
    )

    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    audio: AudioSettings = AudioSettings()
    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    options: Options = Options()
    log: LogSettings = LogSettings()

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)

    def knobs(self) -> Iterator["Knob"]:
        """Yield every setting with its value and where it came from."""
        for section, key in knob_keys():
            dotted = f"{section}.{key}"
            value = getattr(getattr(self, section), key)
            yield Knob(dotted, value, self._origins.get(dotted, DEFAULT_ORIGIN))

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give a child process these very settings, secrets included."""
        variables = {variable_of(knob.key): _env_text(knob.value) for knob in self.knobs()}
        if self._file is not None:
            variables[SETTINGS_VARIABLE] = str(self._file.absolute())
        return variables


class Knob(NamedTuple):
    """One setting: dotted key, value, and `init`, `env NAME`, `file PATH` or `default`."""

    key: str
    value: Any
    origin: str

    def shown(self) -> Any:
        """Return the value as JSON types, a secret without its secret part."""
        if isinstance(self.value, SecretStr):
            return mask_url(self.value.get_secret_value())
        if isinstance(self.value, tuple):
            return [str(item) if isinstance(item, Path) else item for item in self.value]
        return str(self.value) if isinstance(self.value, Path) else self.value


def load_settings(path: Path | None = None, **init: Mapping[str, Any]) -> Settings:
    """Return the effective settings; `init` holds sections, like `redis={"url": ...}`.

    Raises:
        InvalidSettings: a named file is absent or not TOML, a key is misspelt, a value is out of
            bounds. The message names file or variable, key, value and bound.
    """
    file = _find_file(path)
    layers = [
        *([(f"file {file}", _read_file(file))] if file else []),
        ("env", _read_environment()),
        ("init", init),
    ]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        _merge(merged, origins, origin, layer)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise _invalid(error, origins) from error
    settings._origins = origins  # noqa: SLF001 - only loading knows the layers
    settings._file = file  # noqa: SLF001
    return settings


def knob_keys() -> Iterator[tuple[str, str]]:
    """Yield section and key of every setting there is."""
    for section, field in Settings.model_fields.items():
        for key in type(field.default).model_fields:
            yield section, key


def variable_of(dotted: str) -> str:
    """Return the environment variable of a dotted key."""
    return ENV_PREFIX + dotted.replace(".", ENV_DELIMITER).upper()


def mask_url(url: str) -> str:
    """Return a URL without its user, password and query, which may be secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    if not parts.scheme:
        return "***"
    user = "***@" if "@" in parts.netloc else ""
    query = "?***" if parts.query else ""
    return f"{parts.scheme}://{user}{parts.hostname or ''}{port}{parts.path}{query}"


def mask_secrets(text: str) -> str:
    """Return a setting's text fit for a message: of an address only what is no secret."""
    return mask_url(text) if "://" in text else text


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


def _read_environment() -> dict[str, Any]:
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX) and variable.upper() != SETTINGS_VARIABLE:
            _check_variable(variable)
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise InvalidSettings("environment", "must be text, a number or JSON", error) from error


def _check_variable(variable: str) -> None:
    """Refuse a variable with our prefix that sets nothing."""
    known = [variable_of(f"{section}.{key}") for section, key in knob_keys()]
    known += [variable_of(section) for section in Settings.model_fields]
    name = variable.upper()
    if name not in known:
        raise InvalidSettings(f"env {variable}", "no such setting" + _hint(name, known))
    section, _, key = name.removeprefix(ENV_PREFIX).lower().partition(ENV_DELIMITER)
    default = Settings.model_fields[section].default
    if os.environ[variable] and (not key or isinstance(getattr(default, key), tuple)):
        _check_json(variable, 'like {"key": 1}' if not key else 'like ["a", "b"]')


def _check_json(variable: str, example: str) -> None:
    try:
        json.loads(os.environ[variable])
    except ValueError as error:
        shown = mask_secrets(os.environ[variable])
        raise InvalidSettings(f"env {variable}", f"must be JSON, {example}", shown) from error


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


def _invalid(error: ValidationError, origins: dict[str, str]) -> InvalidSettings:
    """Name the first wrong setting: where it stands, its key, the bound and the value."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    dotted = ".".join(path[:2])
    origin = origins.get(dotted) or next(
        (found for key, found in origins.items() if key.startswith(f"{dotted}.")), "settings"
    )
    constraint = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        keys = [f"{section}.{key}" for section, key in knob_keys()]
        constraint = "no such setting" + _hint(
            dotted, keys if "." in dotted else [*Settings.model_fields]
        )
    # Pydantic ends the path of a union with the member's type, which is no key of ours.
    key = ".".join(part for at, part in enumerate(path) if at < 2 or part.isdigit())  # noqa: PLR2004
    value = first["input"]
    # A whole section as the value is no help; the message names the keys.
    shown = None if isinstance(value, Mapping | BaseModel) else mask_secrets(str(value))
    return InvalidSettings(f"{origin}: {key}", constraint, shown)


def _env_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, tuple):
        return json.dumps([str(item) if isinstance(item, Path) else item for item in value])
    return json.dumps(value)
