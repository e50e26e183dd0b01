"""Put a recording that came with a request where workers read it: a shared folder, or the server."""

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import redis

from producer.archive.find import path_to_source
from producer.errors import DiskFull, OutOfRange, QueueFull, ScribefarmError, UnsupportedFormat
from producer.models_served import count_jobs
from producer.settings import Settings
from producer.source import upload_source
from producer.uploads import upload
from producer.web.api.errors import Refusal
from producer.web.api.form import UPLOAD_PREFIX, FormFile, FormLimits
from producer.web.api.room import Room

# Of a part that is a recording; what the bytes are is for the worker to see.
_AUDIO_KINDS = ("audio/", "video/")
_OTHER_KINDS = frozenset({"", "application/octet-stream", "application/ogg", "application/mp4"})
# What a request that broke off has left in the spool folder is older than any request.
_LEFT_OVER_S = 3600.0


class Stored(NamedTuple):
    """A recording that workers can read: what a job says of it."""

    source: str
    audio_sha256: str


def upload_limits(settings: Settings) -> FormLimits:
    """Return what a recording in a request may have."""
    http, silence_s = settings.http, settings.audio.read_timeout_s
    if http.spool_dir is None:
        return FormLimits(settings.audio.max_upload_bytes, silence_s)
    return FormLimits(http.max_upload_bytes, silence_s, http.spool_dir)


def check_kind(file: FormFile) -> None:
    """Refuse a file that its sender does not call audio.

    Raises:
        Refusal: it says that it is something else.
    """
    kind = file.content_type
    if not kind.startswith(_AUDIO_KINDS) and kind not in _OTHER_KINDS:
        must = "must be audio, video or application/octet-stream"
        raise Refusal(UnsupportedFormat("request: file", must, kind[:100]), param="file")


def check_pressure(connection: redis.Redis, settings: Settings) -> None:
    """Refuse new work while enough waits.

    Raises:
        QueueFull: http.max_waiting_jobs wait already.
        ServerUnreachable: the server does not answer.
    """
    queued, _, _ = count_jobs(connection, settings.worker.queues)
    waiting, limit = sum(queued.values()), settings.http.max_waiting_jobs
    if waiting >= limit:
        raise QueueFull("http", f"http.max_waiting_jobs is {limit}", waiting)


def store_upload(connection: redis.Redis, settings: Settings, file: FormFile) -> Stored:
    """Keep a recording for audio.upload_ttl_s, once however often it comes.

    Raises:
        QueueFull: there is no room for it.
        DiskFull: the spool folder does not take it.
        ScribefarmError: as `producer.uploads.upload` raises.
    """
    audio = settings.audio
    Room(connection, settings).take(file.sha256, file.num_bytes, audio.upload_ttl_s)
    folder = settings.http.spool_dir
    if folder is None:
        try:
            upload(connection, file.path, file.sha256, audio)
        except OutOfRange as error:
            raise _of_the_request(error) from error
        return Stored(upload_source(file.sha256, file.name), file.sha256)
    _sweep(folder, audio.upload_ttl_s)
    # No part of the client's name but a plain extension becomes a path.
    target = folder / f"{file.sha256}{file.suffix}"
    try:
        # Workers run as other users; the folder's own rights say who may look.
        file.path.chmod(0o644)
        file.path.replace(target)
    except OSError as error:
        raise DiskFull("http.spool_dir", "must take the recording", error.strerror) from error
    return Stored(path_to_source(target), file.sha256)


def _of_the_request(error: ScribefarmError) -> ScribefarmError:
    return type(error)("request: file", error.constraint, error.value)


def _sweep(folder: Path, ttl_s: float) -> None:
    """Remove recordings that have had their time, and what broken requests left."""
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_broken = entry.name.startswith(UPLOAD_PREFIX)
            life_s = _LEFT_OVER_S if is_broken else ttl_s
            if not (is_broken or _is_hash(entry.name.partition(".")[0])):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < now - life_s:
                    Path(entry.path).unlink()


def _is_hash(name: str) -> bool:
    return len(name) == 64 and set(name) <= set("0123456789abcdef")  # noqa: PLR2004 SHA-256 in hex
