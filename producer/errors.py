"""Every error that scribefarm raises on purpose, with a stable code.

```
ScribefarmError
├── PermanentError                the same input fails the same way: never tried again
│   ├── OutOfRange                out_of_range        a value is outside its limits
│   ├── EmptyInput                empty_input         nothing there to work on
│   ├── RankMismatch              rank_mismatch       an array has the wrong number of axes
│   ├── LengthMismatch            length_mismatch     an axis or a list has the wrong length
│   ├── NonFinite                 non_finite          NaN or infinity where a number must be
│   ├── InvalidOptions            invalid_options     a job asks for something that does not exist
│   ├── InvalidSettings           invalid_settings    settings.toml, environment or flags are wrong
│   ├── UnsupportedFormat         unsupported_format  not audio that we can read
│   ├── CorruptAudio              corrupt_audio       audio that breaks off or lies about itself
│   ├── SourceNotFound            source_not_found    no such recording
│   ├── SourceForbidden           source_forbidden    the recording is outside audio.roots
│   ├── InvalidModel              invalid_model       weights are missing, truncated or mismatched
│   ├── JobRefused                job_refused         not a job that this farm runs
│   ├── JobNotFound               job_not_found       no such job or batch
│   ├── JobTimeout                job_timeout         the job's deadline passed
│   ├── Cancelled                 cancelled           somebody asked for it
│   ├── Poison                    poison              the recording killed its worker too often
│   └── Internal                  internal            a defect of ours
└── TransientError                another time or another worker may succeed
    ├── SourceUnreachable         source_unreachable  the disk or share did not answer
    ├── OutOfMemory               out_of_memory       the device had no room left
    ├── WorkerLost                worker_lost         the worker died, slept or was cut off
    ├── QueueFull                 queue_full          the farm asks to submit later
    ├── ServerUnreachable         server_unreachable  no Redis answers
    └── NoWorker                  no_worker           nobody is there to do the work
```

An error says where it was noticed (`context`), what must hold (`constraint`) and what was
there instead (`value`). All of it survives pickle and JSON.
"""

from typing import Any, ClassVar, Self


class ScribefarmError(Exception):
    """Something went wrong; `code` says what, for programs, and `str()` says it for people."""

    code: ClassVar[str]
    retryable: ClassVar[bool]

    def __init__(self, context: str, constraint: str, value: object = None) -> None:
        super().__init__(context, constraint, value)
        self.context = context
        self.constraint = constraint
        self.value = value

    def __str__(self) -> str:
        found = "" if self.value is None else f" (got {self.value})"
        return f"{self.context}: {self.constraint}{found}"

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, object]]:
        return type(self), (self.context, self.constraint, self.value)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as it is stored in a result: JSON types only."""
        return {
            "code": self.code,
            "context": _json_value(self.context),
            "constraint": _json_value(self.constraint),
            "value": _json_value(self.value),
            "message": _json_value(str(self)),
            "retryable": self.retryable,
        }

    @staticmethod
    def from_dict(stored: dict[str, Any]) -> "ScribefarmError":
        """Return the error that `to_dict` described; an unknown code becomes `Internal`."""
        error_type = ERRORS.get(stored["code"], Internal)
        return error_type(stored["context"], stored["constraint"], stored["value"])


class PermanentError(ScribefarmError):
    """The same input fails the same way, so trying again is waste."""

    retryable = False


class TransientError(ScribefarmError):
    """Another time, or on another worker, the same job may succeed."""

    retryable = True


class OutOfRange(PermanentError):
    """A value is outside its limits: too long, too large, NaN, negative."""

    code = "out_of_range"


class EmptyInput(PermanentError):
    """There is nothing to work on: no samples, too few for one frame, no vocabulary."""

    code = "empty_input"


class RankMismatch(PermanentError):
    """An array has the wrong number of axes."""

    code = "rank_mismatch"


class LengthMismatch(PermanentError):
    """An axis or a list has the wrong length."""

    code = "length_mismatch"


class NonFinite(PermanentError):
    """NaN or infinity stands where a number must be."""

    code = "non_finite"


class InvalidOptions(PermanentError):
    """A job's options are misspelt, out of bounds or contradict each other."""

    code = "invalid_options"


class InvalidSettings(PermanentError):
    """The settings file, the environment or the flags are wrong."""

    code = "invalid_settings"


class UnsupportedFormat(PermanentError):
    """The file is not audio, or not in a format that we can read."""

    code = "unsupported_format"


class CorruptAudio(PermanentError):
    """The audio breaks off or contradicts its own header."""

    code = "corrupt_audio"


class SourceNotFound(PermanentError):
    """There is no recording at that path."""

    code = "source_not_found"


class SourceForbidden(PermanentError):
    """The recording lies outside the folders that this worker may read."""

    code = "source_forbidden"


class InvalidModel(PermanentError):
    """The model's weights are missing, truncated, corrupt or of other shapes than it says."""

    code = "invalid_model"


class JobRefused(PermanentError):
    """The job names a function, or carries data, that this farm does not run."""

    code = "job_refused"


class JobNotFound(PermanentError):
    """No job or batch of that name is known to the server."""

    code = "job_not_found"


class JobTimeout(PermanentError):
    """The job's deadline passed before it was done."""

    code = "job_timeout"


class Cancelled(PermanentError):
    """Somebody asked for the job to be stopped."""

    code = "cancelled"


class Poison(PermanentError):
    """The recording killed its worker too often and is set aside."""

    code = "poison"


class Internal(PermanentError):
    """A defect of ours; the log of the worker has the traceback."""

    code = "internal"


class SourceUnreachable(TransientError):
    """The disk or the network share did not answer."""

    code = "source_unreachable"


class OutOfMemory(TransientError):
    """The device had no room left."""

    code = "out_of_memory"


class WorkerLost(TransientError):
    """The worker died, slept past its lease or was cut off."""

    code = "worker_lost"


class QueueFull(TransientError):
    """The farm has all the jobs it wants to hold; submit later."""

    code = "queue_full"


class ServerUnreachable(TransientError):
    """No Redis answers at the address that the settings give."""

    code = "server_unreachable"


class NoWorker(TransientError):
    """No worker is alive to do the work."""

    code = "no_worker"


ERRORS: dict[str, type[ScribefarmError]] = {
    leaf.code: leaf
    for branch in (PermanentError, TransientError)
    for leaf in branch.__subclasses__()
}


def _json_value(value: object) -> object:
    """Keep plain JSON values; describe everything else in words."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float) and value - value == 0:
        return value
    # Paths may hold bytes that are no text, as surrogates, which JSON's UTF-8 cannot carry.
    return str(value).encode("utf-8", "backslashreplace").decode()
