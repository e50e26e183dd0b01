"""Remembers the hashes of audio files, so that an archive is read once and not every evening."""

import os
import sqlite3
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
from platformdirs import user_cache_path

from producer.queue import hash_audio

# Coarse file systems stamp writes to 2 s (FAT): a younger file may change and keep its time.
_SETTLED_NS = 2_000_000_000

# About 150 MB on disk; the oldest are forgotten beyond it.
_MAX_ENTRIES = 1_000_000

# Written together, so that commands side by side hold the file's lock for moments only.
_WRITE_SIZE = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
  path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, stored_at INTEGER
) WITHOUT ROWID
"""
_PRUNE = """
DELETE FROM hashes WHERE path IN
  (SELECT path FROM hashes ORDER BY stored_at DESC LIMIT -1 OFFSET ?)
"""

log = structlog.get_logger(__name__)


def default_cache_path() -> Path:
    """Return where the cache lives: in the user's cache folder, shared by all commands."""
    return user_cache_path("scribefarm") / "hashes.sqlite"


class HashCache:
    """SHA-256 of files by path, size and modification time; slower if it cannot be kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_cache_path()
        self._database: sqlite3.Connection | None = self._open()
        self._unwritten: list[tuple[bytes, int, int, str, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def sha256(self, path: Path) -> str:
        """Return the hash of a file's bytes in hex, from the cache if the file did not change.

        Raises:
            SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        """
        before = _stat(path)
        if before is None:
            return hash_audio(path)
        if known := self._find(path, before):
            return known
        digest = hash_audio(path)
        after = _stat(path)
        if after and after.st_mtime_ns == before.st_mtime_ns and _is_settled(before):
            row = (os.fsencode(path), before.st_size, before.st_mtime_ns, digest, int(time.time()))
            self._unwritten.append(row)
            if len(self._unwritten) >= _WRITE_SIZE:
                self._write()
        return digest

    def close(self) -> None:
        """Write what was learnt and forget the oldest entries beyond the limit."""
        self._write()
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> sqlite3.Connection | None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self._path, timeout=5.0)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            database.execute(_PRUNE, (_MAX_ENTRIES,))
            database.commit()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return None
        return database

    def _find(self, path: Path, status: os.stat_result) -> str | None:
        if self._database is None:
            return None
        key = (os.fsencode(path), status.st_size, status.st_mtime_ns)
        try:
            row = self._database.execute(
                "SELECT sha256 FROM hashes WHERE path = ? AND size = ? AND mtime_ns = ?", key
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        return None if row is None else str(row[0])

    def _write(self) -> None:
        rows, self._unwritten = self._unwritten, []
        if self._database is None or not rows:
            return
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Go on without a cache: it only saves time."""
        log.warning("hash_cache_unusable", path=str(self._path), error=str(error))
        self._database = None


def _stat(path: Path) -> os.stat_result | None:
    """Return the file's status; None leaves it to the reader to say what is wrong."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - status.st_mtime_ns > _SETTLED_NS
