"""Small files that travel through the server itself, for workers that share no disk with us.

A file is a hash of pieces: `0`, `1`, ... and, written last, `pieces` with their number. It is
dropped after audio.upload_ttl_s, whoever still waits for it.
"""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from producer.connection import server_errors
from producer.errors import (
    OutOfRange,
    SourceChanged,
    SourceNotFound,
)
from producer.keys import upload_key
from producer.reading_errors import NO_RECORDING, reading_errors
from producer.settings import AudioSettings

# One command's worth: it passes within redis.socket_timeout_s on a slow line, too.
PIECE_BYTES = 1 << 20


def check_upload_size(path: Path, settings: AudioSettings) -> None:
    """Refuse a file that is too large to travel through the server.

    Raises:
        OutOfRange: it has more than audio.max_upload_bytes.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return  # whoever reads it says what is wrong
    if stat.S_ISREG(status.st_mode) and status.st_size > settings.max_upload_bytes:
        limit = f"--upload takes at most audio.max_upload_bytes, {settings.max_upload_bytes}"
        raise OutOfRange("submit", limit, status.st_size)


def upload(connection: redis.Redis, path: Path, audio_sha256: str, settings: AudioSettings) -> None:
    """Put a file into the server under its hash; one that is there already lives on.

    Raises:
        SourceChanged: the file is not the one that was hashed.
        OutOfRange: it has more than audio.max_upload_bytes.
        SourceNotFound, SourceForbidden, SourceUnreachable: it cannot be read.
        ServerUnreachable: the server went away.
    """
    key, ttl_s = upload_key(audio_sha256), settings.upload_ttl_s
    with server_errors(connection):
        if connection.hexists(key, "pieces"):
            connection.expire(key, ttl_s)
            return
    must = "--upload takes at most audio.max_upload_bytes"
    most = settings.max_upload_bytes
    digest = store_pieces(connection, key, path, ttl_s=ttl_s, max_bytes=most, must=must)
    if digest != audio_sha256:
        with server_errors(connection):
            connection.delete(key)
        raise SourceChanged("submit", "must not be written to while it is submitted", path)


def store_pieces(
    connection: redis.Redis, key: str, path: Path, *, ttl_s: int, max_bytes: int, must: str
) -> str:
    """Put a file into the server as a hash of pieces, and return its SHA-256 in hex.

    Args:
        connection: To the server.
        key: Of the hash.
        path: The file.
        ttl_s: How long it is kept.
        max_bytes: What it may have.
        must: What an error says of that.

    Raises:
        OutOfRange: it has more.
        SourceNotFound, SourceForbidden, SourceUnreachable: it cannot be read.
        ServerUnreachable: the server went away.
    """
    digest, num_bytes, num_pieces = hashlib.sha256(), 0, 0
    with server_errors(connection):
        for piece in _pieces(path):
            digest.update(piece)
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                connection.delete(key)
                raise OutOfRange("submit", must, num_bytes)
            pipeline = connection.pipeline()
            pipeline.hset(key, str(num_pieces), piece)
            pipeline.expire(key, ttl_s)
            pipeline.execute()
            num_pieces += 1
        pipeline = connection.pipeline()
        pipeline.hset(key, "pieces", str(num_pieces))
        pipeline.expire(key, ttl_s)
        pipeline.execute()
    return digest.hexdigest()


def uploaded_pieces(connection: redis.Redis, audio_sha256: str, name: str) -> Iterator[bytes]:
    """Yield the pieces of an uploaded file.

    Raises:
        SourceNotFound: it was dropped, or never came whole.
        redis.RedisError: the server does not answer.
    """
    gone = SourceNotFound(name, "must lie in the server; uploads live audio.upload_ttl_s")
    return stored_pieces(connection, upload_key(audio_sha256), gone)


def stored_pieces(connection: redis.Redis, key: str, gone: SourceNotFound) -> Iterator[bytes]:
    """Yield what `store_pieces` put under a key.

    Raises:
        SourceNotFound: `gone`: it was dropped, or never came whole.
        redis.RedisError: the server does not answer.
    """
    stored: Any = connection.hget(key, "pieces")
    if stored is None or not stored.isdigit():
        raise gone
    for number in range(int(stored)):
        piece: Any = connection.hget(key, str(number))
        if piece is None:
            raise gone
        yield piece


def _pieces(path: Path) -> Iterator[bytes]:
    with reading_errors("submit", path, NO_RECORDING), path.open("rb") as audio:
        while piece := audio.read(PIECE_BYTES):
            yield piece
