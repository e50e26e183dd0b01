"""Fetch what is no file of this machine: web servers, buckets, uploads become an open file.

The file has no name, so nothing is left of it: not after an error, nor after `kill -9`.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import redis

from producer.connection import connect
from producer.errors import DiskFull, SourceForbidden, SourceUnreachable
from producer.job import Job
from producer.remote_hosts import Access
from producer.settings import Settings
from producer.source import S3_SCHEME, UPLOAD_SCHEME, scheme_of, shown_source, uploaded_sha256
from producer.uploads import uploaded_pieces
from worker.sources.http import Beat, Bounds, Download, write
from worker.sources.s3 import download_object

SPOOL_PREFIX = "scribefarm-spool-"
# Between making a file and taking its name away, where the system cannot make one without, lie
# microseconds: a name older than this was left by a worker that was killed in between.
_LEFT_OVER_S = 60.0
# Our own timeouts come first: a reading thread is given up only where the system itself hangs.
_OF_TIMEOUT = 0.8


class Source(Protocol):
    """One source that is to be fetched."""

    def run(self, into: BinaryIO) -> None:
        """Write all of its bytes.

        Raises:
            ScribefarmError: it cannot be had, or is not what was submitted.
        """


class Fetch:
    """Fetches the sources of jobs into files without a name; called in reading threads."""

    def __init__(self, settings: Settings) -> None:
        """Sweep what a killed worker may have left in `audio.spool_dir`."""
        self._settings = settings
        audio = settings.audio
        self._spool_dir = audio.spool_dir or Path(tempfile.gettempdir())
        self._access = Access(audio.allow_private_hosts, _OF_TIMEOUT * audio.read_timeout_s)
        self._bounds = Bounds(audio.max_download_bytes, audio.download_timeout_s)
        sweep(self._spool_dir)

    def __call__(self, job: Job, beat: Callable[[], None]) -> int:
        """Return a descriptor of the source's bytes, open for reading, at their beginning.

        Args:
            job: Its source is an address.
            beat: Called whenever something has come; what it raises ends the fetching.

        Raises:
            ScribefarmError: as the sources raise; it names the source without its secrets.
        """
        name = shown_source(job.source)
        with self._spool_file(name) as file:
            self._source_of(job, name, beat).run(file)
            with _disk_errors(name):
                file.seek(0)
                return os.dup(file.fileno())

    def _source_of(self, job: Job, name: str, beat: Beat) -> Source:
        scheme = scheme_of(job.source)
        if scheme == S3_SCHEME:
            return download_object(job, self._settings.audio, self._bounds, beat)
        if scheme == UPLOAD_SCHEME:
            return _Uploaded(self._settings, job, beat)
        return Download(name, lambda: job.source, self._access, self._bounds, job.version, beat)

    def _spool_file(self, name: str) -> BinaryIO:
        with _disk_errors(name):
            # Without a buffer: what a full disk has refused is not written again when it is closed.
            file = tempfile.TemporaryFile(  # noqa: SIM115 the caller closes it
                buffering=0, prefix=SPOOL_PREFIX, dir=self._spool_dir
            )
            return cast("BinaryIO", file)


class _Uploaded:
    """A file that was put into the server; its hash is checked where it is decoded."""

    def __init__(self, settings: Settings, job: Job, beat: Beat) -> None:
        self._settings, self._job, self._beat = settings, job, beat

    def run(self, into: BinaryIO) -> None:
        source = self._job.source
        found = uploaded_sha256(source)
        if self._job.audio_sha256 not in {None, found}:
            raise SourceForbidden(source, "must be the upload of the job's own audio", found)
        connection = connect(self._settings)
        try:
            for piece in uploaded_pieces(connection, found, source):
                write(into, piece, source)
                self._beat()
        except redis.RedisError as error:
            limit = "the farm's server must give it"
            raise SourceUnreachable(source, limit, type(error).__name__) from error
        finally:
            connection.close()


def sweep(folder: Path) -> None:
    """Remove what workers that were killed have left in a spool folder."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{SPOOL_PREFIX}*"):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < time.time() - _LEFT_OVER_S:
                    path.unlink()


@contextlib.contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskFull(name, "must fit into audio.spool_dir", error.strerror) from error
