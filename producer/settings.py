"""Every knob of producer and worker: init > environment > settings.toml > defaults."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from producer.job import Options

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedisSettings(_Section):
    """Where the server is; without a URL the embedded one is used."""

    url: SecretStr | None = Field(None, description="redis://, rediss:// or unix://; may hold a password.")
    ca_certs: Path | None = Field(None, description="CA file that signed a rediss:// server.")
    certfile: Path | None = Field(None, description="Client certificate for rediss://.")
    keyfile: Path | None = Field(None, description="Key of the client certificate.")
    socket_timeout_s: Seconds = Field(5.0, description="A half-open connection is given up then.")
    embedded_dir: Path | None = Field(None, description="Data of the embedded server.")


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
    memory_limit_bytes: int | None = Field(None, gt=0, description="MLX may use this much.")
    lease_s: Seconds = Field(30.0, description="A silent worker's jobs are taken over after this.")
    heartbeat_s: Seconds = 5.0
    reap_s: Seconds = Field(10.0, description="How often dead workers are looked for.")
    grace_s: float = Field(60.0, ge=0, description="SIGTERM: finish what fits in this.")
    deadline_factor: Seconds = Field(10.0, description="A job may take this times its duration.")
    min_deadline_s: Seconds = 600.0
    active_hours: str | None = Field(None, description='Like "22:00-06:00"; None: always.')
    timezone: str | None = Field(None, description="IANA name for active_hours; None: machine's.")


class LogSettings(_Section):
    """How the worker speaks."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = Field("auto", description="JSON off a terminal.")


class Settings(BaseSettings):
    """All settings of both programs."""

    model_config = SettingsConfigDict(
        env_prefix="SCRIBEFARM_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    audio: AudioSettings = AudioSettings()
    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    options: Options = Options()
    log: LogSettings = LogSettings()
