"""The jobs that somebody waits for, and their names in a batch: on disk, so that memory is flat."""

from collections.abc import Iterable, Iterator
from typing import Self

from producer.paging import pages
from producer.temporary_database import open_temporary_database

_PAGE = 1000
_SCHEMA = """
CREATE TABLE files (job_id TEXT, name TEXT, is_done INT DEFAULT 0, PRIMARY KEY (job_id, name))
WITHOUT ROWID
"""


class PendingJobs:
    """A set of job ids, each with the names of its files, from which jobs that are done are taken.

    A million jobs take two megabytes of memory; a few never reach the disk.
    """

    def __init__(self, job_ids: Iterable[str] = ()) -> None:
        """Wait for these jobs, none of which has a name."""
        self._database = open_temporary_database(_SCHEMA)
        self._num_files = 0
        self._turn = ""
        self.add(("", job_id) for job_id in job_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many files are waited for."""
        return self._num_files

    def __contains__(self, job_id: str) -> bool:
        asked = "SELECT 1 FROM files WHERE job_id = ? AND NOT is_done"
        return self._database.execute(asked, (job_id,)).fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        """Yield each job once; jobs may be taken out meanwhile."""
        job_id = ""
        while page := self._after(job_id, _PAGE):
            yield from page
            job_id = page[-1]

    def add(self, files: Iterable[tuple[str, str]]) -> int:
        """Wait for files, by (name, job id); return how many of them were not known before."""
        before = self._num_files
        for page in pages(files, _PAGE):
            rows = [(job_id, name) for name, job_id in page]
            changed = self._database.executemany(
                "INSERT OR IGNORE INTO files (job_id, name) VALUES (?, ?)", rows
            )
            self._num_files += changed.rowcount
        return self._num_files - before

    def names_of(self, job_id: str) -> list[str]:
        """Return the names of a job's files that are waited for."""
        asked = "SELECT name FROM files WHERE job_id = ? AND NOT is_done"
        return [name for (name,) in self._database.execute(asked, (job_id,))]

    def finish(self, job_id: str) -> None:
        """Wait for a job no longer."""
        done = "UPDATE files SET is_done = 1 WHERE job_id = ? AND NOT is_done"
        self._num_files -= self._database.execute(done, (job_id,)).rowcount

    def next_slice(self, size: int) -> list[str]:
        """Return the next jobs, each in its turn, from the first again behind the last."""
        found = self._after(self._turn, size)
        self._turn = found[-1] if len(found) == size else ""
        return found

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def _after(self, job_id: str, limit: int) -> list[str]:
        asked = (
            "SELECT DISTINCT job_id FROM files WHERE job_id > ? AND NOT is_done"
            " ORDER BY job_id LIMIT ?"
        )
        return [found for (found,) in self._database.execute(asked, (job_id, limit))]
