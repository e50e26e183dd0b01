"""Hash audio files, and remember their hashes: an archive is read once and not every evening."""

import hashlib
import logging
import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import NamedTuple, Self

from producer.cache_folder import cache_folder
from producer.errors import SourceNotFound
from producer.reading_errors import NO_RECORDING, reading_errors

HASH_BLOCK_BYTES = 1 << 20

# Coarse file systems stamp writes to 2 s (FAT): a younger file may change and keep its time.
_SETTLED_NS = 2_000_000_000

# About 150 MB on disk; the oldest are forgotten beyond it.
_MAX_ENTRIES = 1_000_000

# Written together, so that commands side by side hold the file's lock for moments only.
_WRITE_SIZE = 500

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hashes (
  path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 TEXT, stored_at INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS submissions (
  path BLOB, server TEXT, job_id TEXT, PRIMARY KEY (path, server)
) WITHOUT ROWID;
"""
_FIND = """
SELECT size, mtime_ns, sha256, submissions.job_id FROM hashes
  LEFT JOIN submissions ON submissions.path = hashes.path AND server = ? WHERE hashes.path = ?
"""
_STORE = (
    "INSERT OR REPLACE INTO hashes (path, size, mtime_ns, sha256, stored_at) VALUES (?, ?, ?, ?, ?)"
)
_STORE_JOB = "INSERT OR REPLACE INTO submissions (path, server, job_id) VALUES (?, ?, ?)"
_PRUNE = """
DELETE FROM hashes WHERE path IN
  (SELECT path FROM hashes ORDER BY stored_at DESC LIMIT -1 OFFSET ?)
"""
_PRUNE_JOBS = "DELETE FROM submissions WHERE path NOT IN (SELECT path FROM hashes)"

_log = logging.getLogger(__name__)


def hash_audio(path: Path, context: str = "submit") -> str:
    """Return the SHA-256 of a file's bytes in hex, reading a block at a time.

    Errors name `context`, the command that asked.

    Raises:
        SourceNotFound: there is no such file; folders, pipes and devices are none.
        SourceForbidden: we may not read it.
        SourceUnreachable: the disk or share gave an error.
    """
    digest = hashlib.sha256()
    with reading_errors(context, path, NO_RECORDING):
        # Before it is opened: a pipe would block us, a device may never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceNotFound(context, "must be a regular file", path)
        with path.open("rb") as audio:
            while block := audio.read(HASH_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def default_cache_path() -> Path:
    """Return where the cache lives: in the user's cache folder, shared by all commands."""
    return cache_folder() / "hashes.sqlite"


class Hashed(NamedTuple):
    """A file's hash, and what was known of the path before.

    Attributes:
        sha256: Of the bytes as they are now, in hex.
        status: Size and times when it was hashed; None if they may be wrong.
        old_sha256: Hash at the last submission.
        old_job_id: Job that the path stood for at the last submission to the same server.
        is_cached: The hash comes from the cache.
    """

    sha256: str
    status: os.stat_result | None = None
    old_sha256: str | None = None
    old_job_id: str | None = None
    is_cached: bool = False


class HashCache:
    """SHA-256 of files by path, size and modification time.

    Without a usable database every look-up reads the file.
    """

    def __init__(self, path: Path | None = None, *, server: str = "") -> None:
        """Open the database at `path`, the user's own by default; `server` names who gets the jobs."""
        self._path = path or default_cache_path()
        self._server = server
        self._database: sqlite3.Connection | None = self._open()
        self._unwritten: dict[bytes, tuple[int, int, str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def look_up(self, path: Path) -> Hashed:
        """Return a file's hash, without reading it if neither size nor time changed.

        Raises:
            SourceNotFound, SourceForbidden, SourceUnreachable: the file cannot be read.
        """
        before = _stat(path)
        if before is None:
            return Hashed(hash_audio(path))
        size, mtime_ns, old_sha256, old_job_id = self._find(path)
        if (size, mtime_ns) == (before.st_size, before.st_mtime_ns) and old_sha256:
            return Hashed(old_sha256, before, old_sha256, old_job_id, is_cached=True)
        digest = hash_audio(path)
        after = _stat(path)
        unchanged = after is not None and after.st_mtime_ns == before.st_mtime_ns
        status = before if unchanged and _is_settled(before) else None
        return Hashed(digest, status, old_sha256, old_job_id)

    def remember(self, path: Path, hashed: Hashed, job_id: str) -> None:
        """Keep a hash, and the job that the path now stands for, for the next submission."""
        if hashed.status is None or (hashed.is_cached and job_id == hashed.old_job_id):
            return
        size, mtime_ns = hashed.status.st_size, hashed.status.st_mtime_ns
        self._unwritten[os.fsencode(path)] = (size, mtime_ns, hashed.sha256, job_id)
        if len(self._unwritten) >= _WRITE_SIZE:
            self._write()

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
            database.executescript(_SCHEMA)
            if database.execute(_PRUNE, (_MAX_ENTRIES,)).rowcount:
                database.execute(_PRUNE_JOBS)
            database.commit()
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return None
        return database

    def _find(self, path: Path) -> tuple[int | None, int | None, str | None, str | None]:
        nothing, key = (None, None, None, None), os.fsencode(path)
        if key in self._unwritten:
            return self._unwritten[key]
        if self._database is None:
            return nothing
        try:
            row = self._database.execute(_FIND, (self._server, key)).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return nothing
        return row or nothing

    def _write(self) -> None:
        now_s = int(time.time())
        learnt = list(self._unwritten.items())
        self._unwritten.clear()
        if self._database is None or not learnt:
            return
        hashes = [(path, *fields[:3], now_s) for path, fields in learnt]
        jobs = [(path, self._server, job_id) for path, (*_, job_id) in learnt]
        try:
            with self._database:
                self._database.executemany(_STORE, hashes)
                self._database.executemany(_STORE_JOB, jobs)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Go on without a cache: it only saves time."""
        # Quoted: what is no plain character of a name or a message is an escape.
        _log.warning("hash_cache_unusable: %r: %r", str(self._path), str(error))
        self._database = None


def _stat(path: Path) -> os.stat_result | None:
    """Return the file's status; None leaves it to the reader to say what is wrong."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - status.st_mtime_ns > _SETTLED_NS
