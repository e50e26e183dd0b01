"""What the engine keeps and stands on: its device, its recordings, its figures."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from producer.result import Audio, Model
from worker.audio.read_ahead import Reading
from worker.engine.messages import Ticket
from worker.engine.requests import Align, Decode, DetectLanguage, Encode
from worker.models.whisper.transcription import ModelLimits, Requests, Transcription


@dataclass
class EngineStats:
    """Where the engine's thread spent its time, in seconds, and what it did meanwhile.

    Attributes:
        idle_s: Waiting for work.
        receive_s: Taking audio (log-mel) and messages.
        encode_s: Cutting windows and starting the encoder.
        step_s: Starting steps, and waiting for the device to finish the one before.
        device_wait_s: The part of `step_s` in which the thread waited for the device.
        reply_s: Alignment and language replies.
        row_steps: Rows advanced, summed over steps; over `steps` it is the mean occupancy.
    """

    idle_s: float = 0.0
    receive_s: float = 0.0
    encode_s: float = 0.0
    step_s: float = 0.0
    device_wait_s: float = 0.0
    reply_s: float = 0.0
    steps: int = 0
    row_steps: int = 0
    encoder_batches: int = 0
    windows: int = 0


class Device(Protocol):
    """What the engine needs of `worker.device.device.Device`; the tests have a fake one."""

    limits: ModelLimits
    model: Model
    encode_batch: int

    @property
    def num_slots(self) -> int: ...  # noqa: D102 see worker.device.device
    @property
    def num_active(self) -> int: ...  # noqa: D102 see worker.device.device
    @property
    def wait_s(self) -> float: ...  # noqa: D102 see worker.device.device
    @property
    def num_rows_wanted(self) -> int: ...  # noqa: D102
    def log_mel(self) -> Any: ...  # noqa: D102
    def encode(self, windows: list[tuple[Any, Encode]]) -> list[Any]: ...  # noqa: D102
    def detect_language(self, requests: list[DetectLanguage]) -> Callable[[], list[Any]]: ...  # noqa: D102
    def align(self, requests: list[Align]) -> Callable[[], list[Any]]: ...  # noqa: D102
    def decode(self, key: Any, request: Decode) -> None: ...  # noqa: D102
    def step(self) -> list[tuple[Any, Any]]: ...  # noqa: D102
    def drop(self, key: Any) -> None: ...  # noqa: D102
    def shrink(self) -> bool: ...  # noqa: D102
    def reset(self) -> None: ...  # noqa: D102
    def peak_memory_bytes(self) -> int: ...  # noqa: D102


@dataclass(eq=False)
class Recording:
    """One recording on its way through the engine.

    Attributes:
        windows: The transcription's generator, once all audio was read.
        waited: Steps that its window has waited to be encoded.
    """

    ticket: Ticket
    transcription: Transcription
    reading: Reading
    mel: Any
    windows: Requests | None = None
    audio: Audio | None = None
    audio_prep_s: float = 0.0
    started: float = field(default_factory=time.monotonic)
    waited: int = 0
