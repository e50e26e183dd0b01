"""What a command must remember of a million files, on disk instead of in memory."""

import sqlite3


def open_temporary_database(schema: str) -> sqlite3.Connection:
    """Return an empty SQLite database with these tables; it is gone when it is closed.

    A small one never reaches the disk, a large one is a file without a name there.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.executescript(f"PRAGMA journal_mode=OFF; {schema}")
    return database
