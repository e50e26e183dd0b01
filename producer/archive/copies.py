"""Which files of a submission are copies of others: the same audio, asked for in the same way."""

from typing import Self

from producer.temporary_database import open_temporary_database

_SCHEMA = "CREATE TABLE firsts (job_id TEXT PRIMARY KEY, name TEXT, is_new INT DEFAULT 0)"


class Copies:
    """Remembers the first name of each job of a submission; kept on disk, not in memory."""

    def __init__(self) -> None:
        self._database = open_temporary_database(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._database.close()

    def first_name(self, job_id: str, name: str) -> str:
        """Return the name under which the submission had this job first: `name` if it is new."""
        added = self._database.execute(
            "INSERT OR IGNORE INTO firsts (job_id, name) VALUES (?, ?)", (job_id, name)
        )
        if added.rowcount == 1:
            return name
        found = self._database.execute("SELECT name FROM firsts WHERE job_id = ?", (job_id,))
        return str(found.fetchone()[0])

    def is_enqueued_first(self, job_id: str) -> bool:
        """Return True once for each job of the submission: copies of a recording are one job."""
        asked = "UPDATE firsts SET is_new = 1 WHERE job_id = ? AND NOT is_new"
        return self._database.execute(asked, (job_id,)).rowcount == 1
