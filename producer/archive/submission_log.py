"""Keeps the record of a submission on the server while the submission goes on."""

import contextlib
import time
from collections.abc import Iterator

import redis

from producer.batches.runs import read_run, start_run
from producer.batches.submission import (
    MAX_LISTED,
    LeftOut,
    Submission,
    end_submission,
    write_submission,
)
from producer.connection import server_time_s
from producer.errors import JobNotFound, ScribefarmError, ServerUnreachable
from producer.settings import Settings

# A record has up to half a megabyte, a page of files takes some 50 ms.
_WRITE_EVERY_S = 2.0


class SubmissionLog:
    """Counts what becomes of the files of one submission, and writes it every now and then."""

    def __init__(self, connection: redis.Redis, settings: Settings, batch: str) -> None:
        """Begin a record in place of the last one; it joins a run that has work left."""
        self._connection, self._settings, self._batch = connection, settings, batch
        now_s = server_time_s(connection)
        run_started_at_s = _join_run(connection, settings, batch, now_s)
        self.record = Submission(run_started_at_s=run_started_at_s, began_at_s=now_s)
        self._written_at = float("-inf")

    def problem(self, path: str, error: ScribefarmError) -> None:
        """Count a file that cannot be submitted."""
        self.count("problem")
        if len(self.record.problems) < MAX_LISTED:
            said = error.to_dict()
            listed = LeftOut(path=path, code=error.code, message=said["message"])
            self.record.problems.append(listed)

    def duplicate(self, path: str, of: str) -> None:
        """Count a file that another one stands for."""
        self.count("duplicate")
        if len(self.record.duplicates) < MAX_LISTED:
            self.record.duplicates[path] = of

    def ignored(self, kind: str) -> None:
        """Count a file that was passed over for its name."""
        self.count("ignored")
        self.record.ignored[kind] = self.record.ignored.get(kind, 0) + 1

    def count(self, verdict: str) -> None:
        """Count a file by what became of it."""
        self.record.verdicts[verdict] = self.record.verdicts.get(verdict, 0) + 1

    def page_done(self) -> None:
        """Write the record if that was not done a moment ago."""
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
            self._write()

    @contextlib.contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Write the record at the end: as finished, or as it is if an error ends the submission."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(ServerUnreachable):
                self._write()
                end_submission(self._connection, self._batch)
            raise
        self.record.ended_at_s = server_time_s(self._connection)
        self._write()
        end_submission(self._connection, self._batch)

    def _write(self) -> None:
        write_submission(self._connection, self._settings, self._batch, self.record)
        self._written_at = time.monotonic()


def _join_run(connection: redis.Redis, settings: Settings, batch: str, now_s: float) -> float:
    """Return when the batch's run began: now, unless it still has work of an earlier submission."""
    with contextlib.suppress(JobNotFound):
        run = read_run(connection, batch)
        if run.left:
            return run.started_at_s
    start_run(connection, settings, batch)
    return now_s
