"""A batch's files and texts in SQLite, in the user's cache: what is filtered, sorted and searched.

The server keeps no lists by state, code or word, and is not asked for them: this process copies
what it needs once, slowly (`producer.web.indexer`), and then follows the events. The copy is a
cache. It may be behind, what a page shows of a file is asked anew; damaged it is begun again.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from producer.web.database import Database
from producer.web.filters import Filter, condition_of
from producer.web.phrases import MARKS, full_text_query, pieces, searchable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
  id INTEGER PRIMARY KEY, name TEXT UNIQUE, viewed_at REAL, crawl INTEGER DEFAULT 0,
  is_whole INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, batch_id INTEGER, name TEXT, folder TEXT, job_id TEXT, state TEXT,
  code TEXT, flags TEXT, num_flagged INTEGER, audio_s REAL, language TEXT, worker TEXT,
  ended_s REAL, crawl INTEGER, UNIQUE (batch_id, name)
);
CREATE INDEX IF NOT EXISTS files_by_job ON files (job_id);
CREATE INDEX IF NOT EXISTS files_by_state ON files (batch_id, state, code, name);
CREATE INDEX IF NOT EXISTS files_by_folder ON files (batch_id, folder, state, audio_s);
CREATE TABLE IF NOT EXISTS documents (
  id INTEGER PRIMARY KEY, job_id TEXT UNIQUE, ended_s REAL
);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
  body, tokenize = "unicode61 remove_diacritics 2"
);
"""
_COLUMNS = "name, job_id, state, code, flags, num_flagged, audio_s, language, worker, ended_s"
_UPSERT = """
INSERT INTO files (batch_id, name, folder, job_id, state, code, flags, num_flagged, audio_s,
  language, worker, ended_s, crawl) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (batch_id, name) DO UPDATE SET job_id = excluded.job_id, state = excluded.state,
  code = excluded.code, num_flagged = excluded.num_flagged, audio_s = excluded.audio_s,
  language = excluded.language, worker = excluded.worker, ended_s = excluded.ended_s,
  crawl = excluded.crawl,
  flags = CASE WHEN files.job_id = excluded.job_id AND excluded.state = 'succeeded'
    AND length(files.flags) > length(excluded.flags) THEN files.flags ELSE excluded.flags END
"""
# A record's time and an event's differ by the commit; another attempt's by more.
_WITHOUT_TEXT = """
SELECT files.job_id, max(files.ended_s) FROM files LEFT JOIN documents
  ON documents.job_id = files.job_id AND abs(documents.ended_s - files.ended_s) < 5
WHERE files.batch_id = ? AND files.state = 'succeeded' AND documents.id IS NULL
GROUP BY files.job_id LIMIT ?
"""
_FOUND = """
SELECT files.name, files.job_id, snippet(texts, 0, ?, ?, ' … ', 24), files.audio_s
FROM texts JOIN documents ON documents.id = texts.rowid
  JOIN files ON files.job_id = documents.job_id AND files.batch_id = ?
WHERE texts MATCH ? ORDER BY rank LIMIT ? OFFSET ?
"""


class IndexedFile(NamedTuple):
    """A file of a batch as the index has it; `flags` are those of its segments too."""

    name: str
    job_id: str
    state: str
    code: str = ""
    flags: tuple[str, ...] = ()
    num_flagged: int = 0
    audio_s: float = 0.0
    language: str = ""
    worker: str = ""
    ended_s: float = -1.0


class Found(NamedTuple):
    """A recording with what was asked for: pieces of its text, each with whether it is a match."""

    name: str
    job_id: str
    pieces: list[tuple[str, bool]]
    audio_s: float


class Progress(NamedTuple):
    """How much of a batch the index has; `is_whole` once it has seen every file."""

    files: int = 0
    texts: int = 0
    succeeded: int = 0
    is_whole: bool = False


class Index:
    """The files and texts of some batches."""

    def __init__(self, path: Path) -> None:
        """Open the index at a path.

        Raises:
            OSError, sqlite3.OperationalError: it cannot be made or written there.
        """
        self._database = Database(path, _SCHEMA)
        self._read, self._write = self._database.read, self._database.write

    # Batches

    def track(self, batch: str, viewed_at: float) -> None:
        """Begin to keep a batch, or note that somebody looks at it."""
        with self._write() as database:
            database.execute(
                "INSERT INTO batches (name, viewed_at) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET viewed_at = excluded.viewed_at",
                (batch, viewed_at),
            )

    def tracked(self) -> list[str]:
        """Return the batches that are kept, the one that was looked at last first."""
        rows = self._read("SELECT name FROM batches ORDER BY viewed_at DESC")
        return [name for (name,) in rows]

    def forget(self, batch: str) -> None:
        """Drop a batch, and the texts that no other batch has."""
        with self._write() as database:
            row = database.execute("SELECT id FROM batches WHERE name = ?", (batch,)).fetchone()
            if row is None:
                return
            database.execute("DELETE FROM files WHERE batch_id = ?", row)
            database.execute("DELETE FROM batches WHERE id = ?", row)
            orphans = "SELECT id FROM documents WHERE job_id NOT IN (SELECT job_id FROM files)"
            database.execute(f"DELETE FROM texts WHERE rowid IN ({orphans})")  # noqa: S608 ours
            database.execute(f"DELETE FROM documents WHERE id IN ({orphans})")  # noqa: S608 ours
        with self._write() as database:
            database.execute("PRAGMA incremental_vacuum").fetchall()

    # What the indexer writes

    def begin_crawl(self, batch: str) -> int:
        """Return the number of a new look at all files of a batch."""
        with self._write() as database:
            database.execute("UPDATE batches SET crawl = crawl + 1 WHERE name = ?", (batch,))
        rows = self._read("SELECT crawl FROM batches WHERE name = ?", batch)
        return int(rows[0][0]) if rows else 0

    def put(self, batch: str, files: Iterable[IndexedFile], crawl: int) -> None:
        """Add files of a batch, or what became of them."""
        batch_id = self._id(batch)
        rows = [
            (
                *(batch_id, file.name, file.name.rpartition("/")[0], file.job_id, file.state),
                *(file.code, _joined(file.flags), file.num_flagged, file.audio_s, file.language),
                *(file.worker, file.ended_s, crawl),
            )
            for file in files
        ]
        with self._write() as database:
            database.executemany(_UPSERT, rows)

    def end_crawl(self, batch: str, crawl: int) -> None:
        """Forget the files that a look did not find any more."""
        with self._write() as database:
            database.execute(
                "DELETE FROM files WHERE batch_id = ? AND crawl < ?", (self._id(batch), crawl)
            )
            database.execute("UPDATE batches SET is_whole = 1 WHERE name = ?", (batch,))

    def set_ended(self, job_id: str, state: str, code: str, worker: str, ended_s: float) -> bool:
        """Note that a job ended; False if no batch here has it."""
        with self._write() as database:
            done = database.execute(
                "UPDATE files SET state = ?, code = ?, worker = ?, ended_s = ? WHERE job_id = ?",
                (state, code, worker, ended_s, job_id),
            )
            return done.rowcount > 0

    def set_open(self, job_ids: Iterable[str]) -> None:
        """Note that jobs wait again."""
        with self._write() as database:
            database.executemany(
                "UPDATE files SET state = 'open', code = '' WHERE job_id = ?",
                ((job_id,) for job_id in job_ids),
            )

    def without_text(self, batch: str, limit: int) -> list[tuple[str, float]]:
        """Return succeeded jobs whose text is not here, with when they ended."""
        return self._read(_WITHOUT_TEXT, self._id(batch), limit)

    def put_text(
        self, job_id: str, ended_s: float, text: str, found: IndexedFile | None = None
    ) -> None:
        """Keep a job's text, in the place of an earlier one, and what else its result says."""
        with self._write() as database:
            known = database.execute("SELECT id FROM documents WHERE job_id = ?", (job_id,))
            if row := known.fetchone():
                database.execute("DELETE FROM texts WHERE rowid = ?", row)
                database.execute("DELETE FROM documents WHERE id = ?", row)
            done = database.execute(
                "INSERT INTO documents (job_id, ended_s) VALUES (?, ?)", (job_id, ended_s)
            )
            database.execute(
                "INSERT INTO texts (rowid, body) VALUES (?, ?)", (done.lastrowid, searchable(text))
            )
            if found is not None:
                database.execute(
                    "UPDATE files SET flags = ?, num_flagged = ?, audio_s = ?, language = ? "
                    "WHERE job_id = ?",
                    (
                        *(_joined(found.flags), found.num_flagged, found.audio_s),
                        *(found.language, job_id),
                    ),
                )

    # What pages read

    def files(self, batch: str, wanted: Filter, limit: int, offset: int) -> list[IndexedFile]:
        """Return files of a batch by name."""
        where, values = condition_of(self._id(batch), wanted)
        rows = self._read(
            f"SELECT {_COLUMNS} FROM files WHERE {where} ORDER BY name LIMIT ? OFFSET ?",  # noqa: S608 ours
            *values,
            limit,
            offset,
        )
        return [IndexedFile._make((*row[:4], _split(row[4]), *row[5:])) for row in rows]

    def names_of(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Return a name of each of these jobs that is known here, by job id."""
        found = {}
        for job_id in dict.fromkeys(job_ids):
            for (name,) in self._read("SELECT name FROM files WHERE job_id = ? LIMIT 1", job_id):
                found[job_id] = name
        return found

    def count(self, batch: str, wanted: Filter, most: int) -> int:
        """Return how many files there are, counting no further than `most`."""
        where, values = condition_of(self._id(batch), wanted)
        rows = self._read(
            f"SELECT count(*) FROM (SELECT 1 FROM files WHERE {where} LIMIT ?)",  # noqa: S608 ours
            *values,
            most,
        )
        return int(rows[0][0])

    def states(self, batch: str) -> dict[str, int]:
        """Return how many files stand where."""
        rows = self._read(
            "SELECT state, count(*) FROM files WHERE batch_id = ? GROUP BY state", self._id(batch)
        )
        return dict(rows)

    def folders(self, batch: str) -> list[tuple[str, str, int, float]]:
        """Return (folder, state, files, seconds of audio) of a batch."""
        return self._read(
            "SELECT folder, state, count(*), sum(audio_s) FROM files WHERE batch_id = ? "
            "GROUP BY folder, state",
            self._id(batch),
        )

    def progress(self, batch: str) -> Progress:
        """Return how much of a batch is here."""
        states = self.states(batch)
        rows = self._read(
            "SELECT count(*) FROM files JOIN documents ON documents.job_id = files.job_id "
            "WHERE batch_id = ? AND state = 'succeeded'",
            self._id(batch),
        )
        succeeded = states.get("succeeded", 0)
        return Progress(sum(states.values()), rows[0][0], succeeded, self.is_whole(batch))

    def is_whole(self, batch: str) -> bool:
        """Return whether every file of a batch was seen once."""
        rows = self._read("SELECT is_whole FROM batches WHERE name = ?", batch)
        return bool(rows and rows[0][0])

    def search(self, batch: str, query: str, limit: int, offset: int = 0) -> list[Found]:
        """Return the recordings of a batch that have all words of a query, the best first.

        Words in quotes are one phrase; the last word may be unfinished.
        """
        match = full_text_query(query)
        if not match:
            return []
        rows = self._read(_FOUND, *MARKS, self._id(batch), match, limit, offset)
        return [Found(name, job_id, pieces(text), audio_s) for name, job_id, text, audio_s in rows]

    @property
    def num_bytes(self) -> int:
        """The size of the database."""
        return self._database.num_bytes

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def _id(self, batch: str) -> int:
        rows = self._read("SELECT id FROM batches WHERE name = ?", batch)
        return int(rows[0][0]) if rows else -1


def _joined(flags: Iterable[str]) -> str:
    text = ",".join(flag for flag in flags if flag)
    return f",{text}," if text else ""


def _split(flags: str) -> tuple[str, ...]:
    return tuple(flag for flag in flags.split(",") if flag)
