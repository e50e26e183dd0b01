"""A SQLite file that is only a cache: private, one writer at a time, and begun again if it is damaged."""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# For a lock of another program that shows the same farm.
_PATIENCE_S = 10.0
# Files come in no order, so each is written somewhere else; SQLite's own 2 MB would read the disk.
_CACHE_KIB = 65_536

_log = logging.getLogger(__name__)


class Database:
    """Reads and writes; every thread has a connection of its own."""

    def __init__(self, path: Path, schema: str) -> None:
        """Open the file, and make it if it is not there, with the statements of `schema`.

        Raises:
            OSError: its folder cannot be made.
            sqlite3.OperationalError: it cannot be written.
        """
        self._path, self._schema = path, schema
        self._local = threading.local()
        self._writing = threading.RLock()
        # Of the file: a thread with a connection to an earlier one connects anew.
        self._generation = 0
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._writing:
            self._connection()

    def read(self, statement: str, *values: Any) -> list[Any]:
        """Return all rows of a query; those of an empty database if this one was damaged.

        Raises:
            sqlite3.OperationalError: it is locked, or cannot be read now.
        """
        try:
            return self._connection().execute(statement, values).fetchall()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._begin_again(error)
            return self._connection().execute(statement, values).fetchall()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose changes are kept together, or not at all.

        Raises:
            sqlite3.OperationalError: it is locked, or its disk is full.
        """
        with self._writing:
            try:
                with self._connection() as database:
                    yield database
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._begin_again(error)

    @property
    def num_bytes(self) -> int:
        """The size of what is in it, without what waits in its log."""
        ((pages,),), ((size,),) = self.read("PRAGMA page_count"), self.read("PRAGMA page_size")
        ((free,),) = self.read("PRAGMA freelist_count")
        return int((pages - free) * size)

    def close(self) -> None:
        """Close this thread's connection."""
        if database := getattr(self._local, "database", None):
            database.close()
            self._local.database = None

    def _connection(self) -> sqlite3.Connection:
        is_of_this = getattr(self._local, "generation", -1) == self._generation
        if getattr(self._local, "database", None) is None or not is_of_this:
            try:
                self._local.database = self._connect()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                self._begin_again(error)
                self._local.database = self._connect()
            self._local.generation = self._generation
        database: sqlite3.Connection = self._local.database
        return database

    def _connect(self) -> sqlite3.Connection:
        # Closed by whoever closes the cache, also for threads that have ended.
        database = sqlite3.connect(self._path, timeout=_PATIENCE_S, check_same_thread=False)
        self._path.chmod(0o600)
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        database.executescript(self._schema)
        return database

    def _begin_again(self, error: sqlite3.DatabaseError) -> None:
        """Drop a damaged file; whoever fills the cache fills the new one."""
        with self._writing:
            # Quoted: what is no plain character of a name or a message is an escape.
            _log.warning("cache_damaged: %r: %r", str(self._path), str(error))
            self.close()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._generation += 1
