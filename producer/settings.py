"""All settings of producer and worker: init > environment > settings.toml > defaults.

The file is `./settings.toml`, or the one that $SCRIBEFARM_SETTINGS or `--settings` names. The
variable for `queue.max_queued` is `SCRIBEFARM_QUEUE__MAX_QUEUED`; values that are not plain text
or numbers are written as JSON, and `null` stands for none. What is misspelt or out of bounds is
never ignored.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from producer.job import Options
from producer.masking import mask_url
from producer.settings_sources import (
    ENV_DELIMITER,
    ENV_PREFIX,
    SETTINGS_VARIABLE,
    Layers,
    invalid_settings,
    keys_of,
    read_layers,
    variable_of,
)

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
    read_timeout_s: Seconds = Field(60.0, description="A silent disk or share is given up then.")


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
    """The worker's log."""

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

    _layers: Layers = PrivateAttr(default_factory=lambda: Layers({}, {}, None))

    def effective(self) -> Iterator["Setting"]:
        """Yield every setting with its value and where it came from."""
        for section, key in setting_keys():
            dotted = f"{section}.{key}"
            value = getattr(getattr(self, section), key)
            yield Setting(dotted, value, self._layers.origins.get(dotted, DEFAULT_ORIGIN))

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give a child process the same settings, secrets included."""
        variables = {
            variable_of(setting.key): _env_text(setting.value) for setting in self.effective()
        }
        if self._layers.file is not None:
            variables[SETTINGS_VARIABLE] = str(self._layers.file.absolute())
        return variables


class Setting(NamedTuple):
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
    layers = read_layers(Settings, path, init)
    try:
        settings = Settings(**layers.values)
    except ValidationError as error:
        raise invalid_settings(Settings, error, layers.origins) from error
    settings._layers = layers  # noqa: SLF001 - only loading knows them
    return settings


def setting_keys() -> Iterator[tuple[str, str]]:
    """Yield section and key of every setting there is."""
    return keys_of(Settings)


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
