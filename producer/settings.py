"""All settings of producer and worker: init > environment > settings.toml > defaults.

The file is `./settings.toml`, or the one that $SCRIBEFARM_SETTINGS or `--settings` names. The
variable for `queue.max_queued` is `SCRIBEFARM_QUEUE__MAX_QUEUED`; values that are not plain text
or numbers are written as JSON, and `null` stands for none. What is misspelt or out of bounds is
never ignored.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from producer.active_hours import parse_hours, zone_of
from producer.addresses import parse_address
from producer.errors import InvalidOptions, InvalidSettings
from producer.job import AudioOptions, Options
from producer.masking import mask_url
from producer.model_names import canonical_model
from producer.settings_sources import (
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

# Shorter ones would only spin: no network answers and no heartbeat travels in less than 10 ms.
# Longer ones than a day would hide a dead worker or server for a whole night.
_SHORTEST_S = 0.01
_DAY_S = 86_400
# A recorder that was left running over a holiday; also the most that a Whisper time can say.
_LONGEST_AUDIO_S = 30 * _DAY_S
# Redis takes lives up to 292 million years; ten are for ever, and no slip of the keyboard.
_LONGEST_LIFE_S = 3650 * _DAY_S
# About what a server with a terabyte of memory holds, at a kilobyte a job.
_MOST_QUEUED = 1_000_000_000
# No machine has more: a pebibyte.
_MOST_BYTES = 2**50
_MIB, _GIB = 2**20, 2**30
# More tries or deaths than that are a loop.
_MOST_TRIES = 100
# A thousand times its own length: the slowest machine is at about ten.
_MOST_TIMES_DURATION = 1000
# Times real time; no machine is as fast.
_FASTEST = 1_000_000

Seconds = Annotated[float, Field(ge=_SHORTEST_S, le=_DAY_S, allow_inf_nan=False)]
AudioSeconds = Annotated[float, Field(gt=0, le=_LONGEST_AUDIO_S, allow_inf_nan=False)]
LifeSeconds = Annotated[int, Field(gt=0, le=_LONGEST_LIFE_S)]
# A folder as jobs name it and where this machine has it, both from the root.
PathRule = Annotated[str, Field(pattern=r"^/[^\x00]*=/[^\x00]*$", max_length=8192)]
# Behind an @ stands the model of a queue's jobs; RQ joins the names with commas.
QueueBase = Annotated[str, Field(pattern=r"^[^@,]+$")]


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

    result_ttl_s: LifeSeconds = Field(
        90 * _DAY_S, description="Transcripts are dropped after this."
    )
    job_ttl_s: LifeSeconds = Field(30 * _DAY_S, description="Queued jobs are dropped after this.")
    max_queued: int = Field(
        1_000_000, gt=0, le=_MOST_QUEUED, description="Submit pushes back above this."
    )
    max_attempts: int = Field(
        3, ge=1, le=_MOST_TRIES, description="Tries of a job that may succeed later."
    )
    retry_delays_s: tuple[Annotated[float, Field(ge=0, le=_DAY_S, allow_inf_nan=False)], ...] = (
        Field((10.0, 60.0, 300.0), min_length=1, max_length=_MOST_TRIES)
    )
    poison_after: int = Field(
        2, ge=1, le=_MOST_TRIES, description="Workers one recording may kill."
    )


class AudioSettings(AudioOptions):
    """Which recordings are accepted, and how they are read unless their job says otherwise."""

    roots: tuple[Path, ...] = Field((), description="Only files below these are read; empty: any.")
    max_audio_seconds: AudioSeconds = Field(30.0, description="One pass through the pipeline.")
    max_file_seconds: AudioSeconds = Field(12 * 3600.0, description="One recording.")
    long_audio: Literal["split", "reject"] = Field("split", description="Longer than one pass.")
    auto_resample: bool = True
    listen: bool = Field(True, description="Listen for voices also where no silence is skipped.")
    threads: int = Field(2, ge=1, le=64, description="Recordings decoded at once.")
    processes: int = Field(
        0, ge=0, le=64, description="The same in processes; for GPUs that threads cannot feed."
    )
    read_timeout_s: Seconds = Field(
        60.0, description="A silent disk, share or server is given up then."
    )
    path_map: tuple[PathRule, ...] = Field(
        (), max_length=1000, description="FROM=TO: folders that this worker has elsewhere."
    )
    allow_private_hosts: tuple[str, ...] = Field(
        (), max_length=1000, description="Hosts and networks that are asked though private."
    )
    s3_buckets: tuple[str, ...] = Field(
        (), max_length=1000, description="Only these buckets are read; empty: any."
    )
    spool_dir: Path | None = Field(
        None, description="Downloads in hand; by default the system's folder."
    )
    max_download_bytes: int = Field(
        4 * _GIB, gt=0, le=_MOST_BYTES, description="Larger sources are refused."
    )
    download_timeout_s: Seconds = Field(
        7200.0, description="A download that takes longer is given up."
    )
    max_upload_bytes: int = Field(
        32 * _MIB, gt=0, le=_GIB // 4, description="Larger files are not taken by --upload."
    )
    upload_ttl_s: LifeSeconds = Field(_DAY_S, description="Uploads are dropped after this.")

    def for_job(self) -> AudioOptions:
        """Return what a job takes from here if it does not say itself how it is read."""
        return AudioOptions(**{key: getattr(self, key) for key in AudioOptions.model_fields})


class ModelSettings(_Section):
    """Which weights are pinned."""

    name: str = Field(
        "tiny.en", min_length=1, description="Name like large-v3 or turbo, folder or hub id."
    )
    revision: str | None = Field(None, description="Hub commit; pinned on first use if None.")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    @field_validator("name")
    @classmethod
    def _one_name_of_a_model(cls, name: str) -> str:
        try:
            return canonical_model(name)
        except InvalidOptions as error:
            raise ValueError(error.constraint) from error


class WorkerSettings(_Section):
    """One worker process: one model, many recordings in flight."""

    queues: tuple[QueueBase, ...] = Field(("high", "default", "low"), min_length=1)
    slots: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = Field(
        "auto", description="Windows decoded together."
    )
    backend: Literal["auto", "mlx", "numpy"] = Field(
        "auto", description="What computes; auto: numpy on an x86-64 CPU in float32, else mlx."
    )
    memory_limit_bytes: int | None = Field(
        None, gt=0, le=_MOST_BYTES, description="MLX may use this much."
    )
    lease_s: Seconds = Field(30.0, description="A silent worker's jobs are taken over after this.")
    heartbeat_s: Seconds = 5.0
    reap_s: Seconds = Field(10.0, description="How often dead workers are looked for.")
    grace_s: float = Field(
        60.0, ge=0, le=_DAY_S, allow_inf_nan=False, description="SIGTERM: finish what fits in this."
    )
    deadline_factor: float = Field(
        10.0,
        gt=0,
        le=_MOST_TIMES_DURATION,
        allow_inf_nan=False,
        description="A job may take this times its duration.",
    )
    min_deadline_s: Seconds = 600.0
    active_hours: str | None = Field(None, description='Like "22:00-06:00"; None: always.')
    timezone: str | None = Field(None, description="IANA name for active_hours; None: machine's.")
    bench_speed: float | None = Field(
        None,
        gt=0,
        le=_FASTEST,
        allow_inf_nan=False,
        description="Audio seconds a second that bench measured here; half of it is slow.",
    )
    metrics_listen: str | None = Field(
        None, description="PORT or HOST:PORT of this worker's own /metrics, /healthz, /readyz."
    )

    @field_validator("active_hours")
    @classmethod
    def _hours_are_understood(cls, spec: str | None) -> str | None:
        return _checked(parse_hours, spec)

    @field_validator("timezone")
    @classmethod
    def _zone_is_known(cls, name: str | None) -> str | None:
        return _checked(zone_of, name)

    @field_validator("metrics_listen")
    @classmethod
    def _address_is_understood(cls, address: str | None) -> str | None:
        return _checked(lambda text: parse_address(text, "worker.metrics_listen"), address)

    @model_validator(mode="after")
    def _lease_outlives_beats(self) -> Self:
        if self.lease_s < BEATS_PER_LEASE * self.heartbeat_s:
            msg = f"worker.lease_s must be at least {BEATS_PER_LEASE} times worker.heartbeat_s"
            raise ValueError(msg)
        return self


def _checked(check: Callable[[str], object], text: str | None) -> str | None:
    """Return a setting that `check` takes; say what it says of another."""
    if text is not None:
        try:
            check(text)
        except (InvalidSettings, InvalidOptions) as error:
            raise ValueError(error.constraint) from error
    return text


class WebSettings(_Section):
    """What `scribefarm web` serves, and to whom."""

    listen: str = Field("127.0.0.1:8723", description="HOST:PORT of `scribefarm web`.")
    token_file: Path | None = Field(
        None, description="File with the token that is asked for; needed beyond this machine."
    )
    hosts: tuple[str, ...] = Field(
        (), max_length=100, description="Names under which the page may be asked, as of a proxy."
    )
    allow_actions: bool = Field(
        False, description="Let the page retry, cancel, pause, resume and drain."
    )
    roots: tuple[Path, ...] = Field(
        (), description="Recordings below these are played; empty: those of audio.roots."
    )
    index_dir: Path | None = Field(
        None, description="Folder of the search index; by default in the user's cache."
    )
    max_index_bytes: int = Field(
        2 * _GIB, ge=_MIB, le=_MOST_BYTES, description="The search index is kept below this."
    )


class LogSettings(_Section):
    """The worker's log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field("auto", description="JSON off a terminal.")


class HttpSettings(_Section):
    """The HTTP front for programs: what it takes, how long it waits and keeps."""

    spool_dir: Path | None = Field(
        None, description="Folder that workers see too, for uploads; None: through the server."
    )
    max_upload_bytes: int = Field(
        _GIB,
        gt=0,
        le=_MOST_BYTES,
        description="Of one recording in the spool folder; else audio.max_upload_bytes.",
    )
    max_stored_bytes: int = Field(
        _GIB, gt=0, le=_MOST_BYTES, description="Of all uploads; beyond it, 429."
    )
    max_waiting_jobs: int = Field(
        10_000, gt=0, le=_MOST_QUEUED, description="While more jobs wait, new work is 429."
    )
    retry_after_s: int = Field(30, ge=1, le=_DAY_S, description="Said with 429 and 503.")
    wait_s: Seconds = Field(600.0, description="A request waits this long for its text.")
    keep_s: LifeSeconds = Field(
        30 * _DAY_S, description="Batches and files of lines are dropped after this."
    )
    max_files: int = Field(10_000, gt=0, le=1_000_000, description="Files kept; beyond it, 429.")
    max_batches: int = Field(1000, gt=0, le=100_000, description="Batches kept; beyond it, 429.")
    max_batch_lines: int = Field(50_000, gt=0, le=1_000_000, description="Lines of one batch.")
    max_batch_bytes: int = Field(32 * _MIB, gt=0, le=_GIB // 4, description="Of a file of lines.")


class TraceSettings(_Section):
    """Spans for OpenTelemetry (extra `otel`)."""

    exporter: Literal["none", "otlp", "console"] = Field(
        "none", description="otlp goes where OTEL_EXPORTER_OTLP_ENDPOINT says; console is stderr."
    )


class Settings(_Section):
    """All settings of both programs; make them with `load_settings`."""

    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    audio: AudioSettings = AudioSettings()
    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    options: Options = Options()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    http: HttpSettings = HttpSettings()
    trace: TraceSettings = TraceSettings()

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
