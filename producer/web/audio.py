"""Recordings for the page's player: only files below the roots, a range of bytes at a time.

A path comes out of a job, which anybody may have submitted, so it is never trusted: it is put where
this machine has it (`audio.path_map`), its links are resolved, and the file that was opened must be
the one that lies below a root.
"""

import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producer.errors import ScribefarmError, SourceForbidden, SourceNotFound
from producer.path_map import PathMap
from producer.reading_errors import NO_RECORDING, reading_errors
from producer.roots import within_roots
from producer.settings import Settings
from producer.source import is_fetched, is_foreign

_BLOCK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
# A share that hangs holds so many threads, and not those that the pages need.
_MAX_THREADS = 8

MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".wave": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".aac": "audio/aac",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".oga": "audio/ogg",
    ".opus": "audio/ogg",
    ".webm": "audio/webm",
    ".weba": "audio/webm",
    ".mka": "audio/webm",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
}
"""What browsers play, by extension; nothing else is sent to the player."""


class Opened(NamedTuple):
    """A recording that may be played."""

    file: BinaryIO
    size: int
    etag: str
    media_type: str


class Recordings:
    """Opens the recordings that this machine may play."""

    def __init__(self, settings: Settings) -> None:
        self._roots = settings.web.roots or settings.audio.roots
        self._map = PathMap(settings.audio.path_map)
        self.threads = CapacityLimiter(_MAX_THREADS)

    def why_not(self, source: str) -> str:
        """Return why a recording cannot be played here; "" if it may be tried."""
        if not source:
            return "Where the recording is was not said."
        if is_fetched(source) or is_foreign(source):
            return "It is not a file, so it is not played here."
        if not self._roots:
            return "No folder may be played from: name some in web.roots or audio.roots."
        if Path(source).suffix.lower() not in MEDIA_TYPES:
            return "Browsers do not play files of this kind."
        try:
            self._path(source)
        except ScribefarmError:
            return "It lies outside the folders that may be played from, web.roots or audio.roots."
        return ""

    def open(self, source: str) -> Opened:
        """Open a recording.

        Raises:
            SourceForbidden: it is not below the roots, or of no kind that is played.
            SourceNotFound: there is no such file; folders, pipes and devices are none.
            SourceUnreachable: the disk or share gave an error.
        """
        if not self._roots or is_fetched(source) or is_foreign(source) or not source:
            raise SourceForbidden("player", "must be a file below web.roots or audio.roots")
        path = self._path(source)
        media_type = MEDIA_TYPES.get(path.suffix.lower())
        if media_type is None:
            raise SourceForbidden("player", "must be a recording that browsers play")
        with reading_errors("player", path, NO_RECORDING):
            # Not blocking: a pipe would wait for its writer.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            file = os.fdopen(handle, "rb")
            status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise SourceNotFound("player", "must be a regular file")
        if not self._is_still(path, status):
            file.close()
            raise SourceForbidden("player", "must lie below web.roots or audio.roots")
        etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        return Opened(file, status.st_size, etag, media_type)

    def _path(self, source: str) -> Path:
        return Path(within_roots(self._map.apply(source), self._roots))

    def _is_still(self, path: Path, opened: os.stat_result) -> bool:
        """Return whether what was opened is what lies there: no folder was exchanged meanwhile."""
        try:
            found = os.stat(within_roots(str(path), self._roots))  # noqa: PTH116 - of an fd's kind
        except (ScribefarmError, OSError):
            return False
        return (found.st_dev, found.st_ino) == (opened.st_dev, opened.st_ino)


async def play(request: Request, recordings: Recordings, source: str) -> Response:
    """Answer with a recording, or the range of it that is asked for.

    Raises:
        ScribefarmError: it may not be played, or cannot be read.
    """
    opened = await to_thread.run_sync(recordings.open, source, limiter=recordings.threads)
    headers = {"Accept-Ranges": "bytes", "ETag": opened.etag, "Cache-Control": "private, no-cache"}
    if_range = request.headers.get("if-range", opened.etag)
    asked = request.headers.get("range") if if_range == opened.etag else None
    span = parse_range(asked, opened.size)
    if span is None:
        opened.file.close()
        headers["Content-Range"] = f"bytes */{opened.size}"
        return Response(None, 416, headers)
    start, end = span
    is_part = asked is not None and (start, end) != (0, opened.size)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{opened.size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if is_part else 200
    if request.method == "HEAD":
        opened.file.close()
        return Response(None, status, headers, opened.media_type)
    body = _blocks(opened.file, start, end, recordings.threads)
    return StreamingResponse(body, status, headers, opened.media_type)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return begin and end of the bytes that are asked for, the whole without a header we know.

    None is a range that the file does not have. Of several ranges none is answered: the whole is.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return 0, size
    # More digits than any size has: int() would refuse thousands of them.
    first, last = (text[:20] for text in match.groups())
    if not first:
        length = min(int(last), size)
        return (size - length, size) if length else None
    start, end = int(first), min(int(last) + 1 if last else size, size)
    return (start, end) if start < end else None


async def _blocks(
    file: BinaryIO, start: int, end: int, threads: CapacityLimiter
) -> AsyncIterator[bytes]:
    try:
        await to_thread.run_sync(file.seek, start, limiter=threads)
        left = end - start
        while left > 0:
            block = await to_thread.run_sync(file.read, min(_BLOCK_BYTES, left), limiter=threads)
            if not block:
                return
            left -= len(block)
            yield block
    finally:
        file.close()
