"""Every error that scribefarm raises on purpose: a stable code, and what a person can do about it.

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
│   ├── SourceChanged             source_changed      the file is not the one that was submitted
│   ├── InvalidModel              invalid_model       weights are missing, truncated or mismatched
│   ├── JobRefused                job_refused         not a job that this farm runs
│   ├── JobNotFound               job_not_found       no such job or batch
│   ├── Unreadable                unreadable          stored by a newer version, or damaged
│   ├── JobTimeout                job_timeout         the job's deadline passed
│   ├── Cancelled                 cancelled           somebody asked for it
│   ├── WebhookGone               webhook_gone        the receiver wants no more events
│   ├── Poison                    poison              the recording killed its worker too often
│   └── Internal                  internal            a defect of ours
└── TransientError                another time or another worker may succeed
    ├── SourceUnreachable         source_unreachable  the disk or share did not answer
    ├── ModelUnreachable          model_unreachable   the model hub did not answer
    ├── OutputFailed              output_failed       a file could not be written
    ├── DiskFull                  disk_full           the worker's disk had no room left
    ├── PrivacyDenied             privacy_denied      macOS keeps the worker from the folder
    ├── OutOfMemory               out_of_memory       the device had no room left
    ├── DeviceLost                device_lost         the GPU timed out or went away
    ├── WorkerLost                worker_lost         the worker died, slept or was cut off
    ├── QueueFull                 queue_full          the farm asks to submit later
    ├── ServerUnreachable         server_unreachable  no Redis answers
    ├── LocalNetworkDenied        local_network_denied  macOS keeps the program from its own network
    └── NoWorker                  no_worker           nobody is there to do the work
```

An error says where it was noticed (`context`), what must hold (`constraint`) and what was
there instead (`value`). All of it survives pickle and JSON.
"""

from enum import IntEnum
from typing import Any, ClassVar, Self

UNKNOWN_ADVICE = "Another program wrote this error. Look into the result: scribefarm result JOB."


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NOBODY_THERE = 3
    INTERRUPTED = 130


class ScribefarmError(Exception):
    """Something went wrong; `code` says what, for programs, and `str()` says it for people.

    Attributes:
        code: Stable name in results, events and messages: the class name in snake case.
        advice: What a person can do about it.
        retryable: Whether the same job may succeed another time.
        exit_code: Of a command that the error ended.
    """

    code: ClassVar[str]
    advice: ClassVar[str]
    retryable: ClassVar[bool]
    exit_code: ClassVar[Exit] = Exit.SOME_FAILED

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
    advice = (
        "The value is beyond the limit named in the message. If the recording is meant to be so, "
        "raise that setting (audio.max_file_seconds is a recording's length) and retry; else cut it."
    )


class EmptyInput(PermanentError):
    """There is nothing to work on: no samples, too few for one frame, no vocabulary."""

    code = "empty_input"
    advice = "The recording holds no audio. Check the recorder or the copy; nothing to retry."


class RankMismatch(PermanentError):
    """An array has the wrong number of axes."""

    code = "rank_mismatch"
    advice = "The model gave an array of a wrong shape. Check model.name."


class LengthMismatch(PermanentError):
    """An axis or a list has the wrong length."""

    code = "length_mismatch"
    advice = "The model or its tokenizer do not fit together. Check model.name."


class NonFinite(PermanentError):
    """NaN or infinity stands where a number must be."""

    code = "non_finite"
    advice = "The model computed NaN. Try model.dtype = float32, or another model."


class InvalidOptions(PermanentError):
    """A job's options are misspelt, out of bounds or contradict each other."""

    code = "invalid_options"
    exit_code = Exit.USAGE
    advice = "The job asks for something that does not exist. Correct the option and submit again."


class InvalidSettings(PermanentError):
    """The settings file, the environment or the flags are wrong."""

    code = "invalid_settings"
    exit_code = Exit.USAGE
    advice = "Correct settings.toml or the environment of the worker."


class UnsupportedFormat(PermanentError):
    """The file is not audio, or not in a format that we can read."""

    code = "unsupported_format"
    advice = (
        "The file is not audio that we read. Convert it (ffmpeg -i in out.flac) or leave it out "
        "with --exclude."
    )


class CorruptAudio(PermanentError):
    """The audio breaks off or contradicts its own header."""

    code = "corrupt_audio"
    advice = (
        "The file breaks off or contradicts itself. Copy it again from the original, or repair it "
        "(ffmpeg -i in out.flac), and submit again."
    )


class SourceNotFound(PermanentError):
    """There is no recording at that path."""

    code = "source_not_found"
    advice = (
        "The worker sees no file there. It needs the same path as the submitter: mount the share "
        "in the same place on all machines, or set audio.path_map. An address or upload is gone."
    )


class SourceForbidden(PermanentError):
    """The recording lies outside the folders that this worker may read."""

    code = "source_forbidden"
    advice = (
        "The worker may not read the file. Check its permissions and audio.roots; of an address, "
        "its signature and audio.allow_private_hosts."
    )


class SourceChanged(PermanentError):
    """The file's bytes are not those that were submitted, or changed while they were read."""

    code = "source_changed"
    advice = (
        "The file was replaced or written to after it was submitted. Submit it again: it is new "
        "work then."
    )


class InvalidModel(PermanentError):
    """The model's weights are missing, truncated, corrupt or of other shapes than it says."""

    code = "invalid_model"
    advice = (
        "Look at model.name, and do what the message says: install the model's package, or fetch it "
        "again with scribefarm-worker models fetch; then retry."
    )


class JobRefused(PermanentError):
    """The job names a function, or carries data, that this farm does not run."""

    code = "job_refused"
    advice = "The job was enqueued by another program in a form that this farm does not run."


class JobNotFound(PermanentError):
    """No job or batch of that name is known to the server."""

    code = "job_not_found"
    advice = "The job or its result has expired. Submit the recording again."


class Unreadable(PermanentError):
    """A stored result or event is of a newer version's form, or damaged."""

    code = "unreadable"
    advice = (
        "A newer scribefarm wrote it, or another program damaged it. Update scribefarm on this "
        "machine; if that does not help, retry."
    )


class JobTimeout(PermanentError):
    """The job's deadline passed before it was done."""

    code = "job_timeout"
    advice = "The recording took too long. Raise worker.deadline_factor, then retry."


class Cancelled(PermanentError):
    """Somebody asked for the job to be stopped."""

    code = "cancelled"
    advice = "Somebody cancelled it. Retry if it is wanted after all."


class WebhookGone(PermanentError):
    """The receiver of a webhook answered 410, Gone: it wants no more events."""

    code = "webhook_gone"
    advice = "The receiver said that it is gone. Correct --url, or stop this relay."


class Poison(PermanentError):
    """The recording killed its worker too often and is set aside."""

    code = "poison"
    advice = "The recording killed its worker more than once. Look at it before you retry."


class Internal(PermanentError):
    """A defect of ours; the log of the worker has the traceback."""

    code = "internal"
    advice = "A defect of scribefarm: the worker's log has the traceback. Please report it."


class SourceUnreachable(TransientError):
    """The disk or the network share did not answer."""

    code = "source_unreachable"
    advice = "The disk, share or server did not answer. Check the mount or the network, then retry."


class ModelUnreachable(TransientError):
    """The model hub did not answer, and the model is not on disk."""

    code = "model_unreachable"
    advice = (
        "The model hub did not answer. Check the network, or fetch the model while it is there: "
        "scribefarm-worker models fetch NAME."
    )


class OutputFailed(TransientError):
    """A transcript or a report could not be written: a full disk, a folder without rights."""

    code = "output_failed"
    advice = "The output could not be written. Make room or rights there, then run it again."


class DiskFull(TransientError):
    """The worker's disk for temporary files had no room left."""

    code = "disk_full"
    advice = (
        "The worker's temporary folder (TMPDIR, audio.spool_dir) was full. Make room, then retry."
    )


class PrivacyDenied(TransientError):
    """MacOS's privacy protection keeps the worker from the recording's folder."""

    code = "privacy_denied"
    advice = (
        "macOS keeps programs from that folder. Add the program named in the message under "
        "System Settings > Privacy & Security > Full Disk Access, then retry."
    )


class OutOfMemory(TransientError):
    """The device had no room left."""

    code = "out_of_memory"
    advice = "The device was full. Lower worker.slots or use a smaller model, then retry."


class DeviceLost(TransientError):
    """The GPU timed out, was reset or went away; the worker starts again with a fresh one."""

    code = "device_lost"
    advice = (
        "The GPU failed while the recording was on it, among others. Retry; if it comes back, use "
        "fewer worker.slots and let the display sleep."
    )


class WorkerLost(TransientError):
    """The worker died, slept past its lease or was cut off."""

    code = "worker_lost"
    advice = "Workers died or slept on it. Keep the machines awake, then retry."


class QueueFull(TransientError):
    """The farm has all the jobs it wants to hold; submit later."""

    code = "queue_full"
    advice = "The queue holds all it may. Submit later or raise queue.max_queued."


class ServerUnreachable(TransientError):
    """No Redis answers at the address that the settings give."""

    code = "server_unreachable"
    exit_code = Exit.NOBODY_THERE
    advice = "No server answered. Check redis.url and the network."


class LocalNetworkDenied(TransientError):
    """MacOS keeps the program from the machines of its own network."""

    code = "local_network_denied"
    exit_code = Exit.NOBODY_THERE
    advice = (
        "macOS 15 and later keep launchd agents from machines of the same network. Install the "
        "worker as a daemon, or use an address outside that network (VPN)."
    )


class NoWorker(TransientError):
    """No worker is alive to do the work."""

    code = "no_worker"
    exit_code = Exit.NOBODY_THERE
    advice = "No worker was alive. Start one: scribefarm-worker run."


ERRORS: dict[str, type[ScribefarmError]] = {
    leaf.code: leaf
    for branch in (PermanentError, TransientError)
    for leaf in branch.__subclasses__()
}


def advice_for(code: str) -> str:
    """Return what to do about an error code; codes of other programs get a general answer."""
    return ERRORS[code].advice if code in ERRORS else UNKNOWN_ADVICE


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
