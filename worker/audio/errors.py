"""The boundary at which exceptions of soundfile, PyAV and the system become our errors.

Everything that touches a recording's bytes runs inside `translated`: no foreign exception passes.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import av.error
import soundfile

from producer.errors import (
    CorruptAudio,
    OutOfMemory,
    PrivacyDenied,
    ScribefarmError,
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)

SNDFILE_SYSTEM = 2  # libsndfile's number for an error of the operating system
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NOT_A_FILE = {errno.EISDIR}


@contextmanager
def translated(name: str, *, opening: bool = False) -> Iterator[None]:
    """Turn every exception of soundfile, PyAV and the system into one of ours.

    Args:
        name: The recording, named in the error.
        opening: As for `translate`.

    Raises:
        ScribefarmError: what `translate` makes of the exception; ours pass as they are.
    """
    try:
        yield
    except ScribefarmError:
        raise
    except Exception as exc:
        raise translate(name, exc, opening=opening) from exc


def translate(name: str, exc: Exception, *, opening: bool) -> ScribefarmError:
    """Return our error for an exception of soundfile, PyAV, NumPy or the system.

    Args:
        name: The recording, named in the error.
        exc: What was raised.
        opening: The header is being read: what FFmpeg does not recognise is an unsupported
            format. Later the same exception means damage.
    """
    if isinstance(exc, av.error.FFmpegError):  # before the built-in errors that it also poses as
        return _translate_ffmpeg_error(name, exc, opening=opening)
    if isinstance(exc, MemoryError):
        return OutOfMemory(name, "must fit into memory")
    if isinstance(exc, OSError):
        return _translate_os_error(name, exc)
    if isinstance(exc, soundfile.LibsndfileError) and exc.code == SNDFILE_SYSTEM:
        return SourceUnreachable(name, "must be readable", reason(exc))
    return CorruptAudio(name, "must be intact audio", reason(exc))


def _translate_ffmpeg_error(
    name: str, exc: av.error.FFmpegError, *, opening: bool
) -> ScribefarmError:
    """Return our error for FFmpeg's.

    FFmpeg reads through our own file object, so its EPERM or ENOMEM is about the content, never
    about the disk.
    """
    if isinstance(exc, av.error.LookupError | av.error.PatchWelcomeError | NotImplementedError):
        return UnsupportedFormat(name, "must be of a codec that FFmpeg decodes", reason(exc))
    if opening:
        return UnsupportedFormat(name, "must be audio of a known format", reason(exc))
    return CorruptAudio(name, "must be intact audio", reason(exc))


def _translate_os_error(name: str, exc: OSError) -> ScribefarmError:
    if exc.errno in _ABSENT:
        return SourceNotFound(name, "must exist", reason(exc))
    if exc.errno == errno.EPERM and sys.platform == "darwin":
        # Not the file's permissions, which give EACCES: the system's privacy protection.
        program = os.path.realpath(sys.executable)
        return PrivacyDenied(name, f"macOS must give {program} Full Disk Access", reason(exc))
    if exc.errno in _FORBIDDEN:
        return SourceForbidden(name, "must be readable by the worker", reason(exc))
    if exc.errno in _NOT_A_FILE:
        return UnsupportedFormat(name, "must be a regular file", reason(exc))
    if exc.errno == errno.EINVAL:  # a damaged header sent FFmpeg to a negative offset
        return CorruptAudio(name, "must be intact audio", reason(exc))
    return SourceUnreachable(name, "must be readable", reason(exc))


def reason(exc: Exception) -> str:
    """Return the library's message without the file's name, which our errors state already."""
    if isinstance(exc, soundfile.LibsndfileError):
        return str(exc.error_string)
    if isinstance(exc, OSError | av.error.FFmpegError) and exc.strerror:
        return str(exc.strerror)
    return str(exc) or type(exc).__name__
