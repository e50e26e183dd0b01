"""The work on a batch: its lines become jobs, and when these have ended, its files are there.

Each step may be repeated: one process works on a batch at a time, under a lease, and goes on where
another one stopped. A batch is looked after when somebody asks for it.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import structlog

from producer.archive.hash_cache import HashCache
from producer.archive.submit import FULL_QUEUE_PAUSE_S, submit_jobs
from producer.batches.actions import cancel_batch
from producer.batches.views import batch_exists, note_batch
from producer.batches.watching import batch_status
from producer.connection import server_errors, server_name
from producer.errors import (
    InvalidOptions,
    OutOfRange,
    QueueFull,
    ScribefarmError,
    ServerUnreachable,
)
from producer.job import Job
from producer.keys import http_key
from producer.traces import TraceParent
from producer.web.api.asked import options_of
from producer.web.api.batch_lines import KeptLine, Line, damaged, read_line, split_lines
from producer.web.api.batch_output import answer_lines, batches_of, lines_key
from producer.web.api.errors import Refusal
from producer.web.api.files import files_of
from producer.web.api.model_choice import chosen_model
from producer.web.api.records import BatchRecord, FileRecord
from producer.web.api.shapes import LineError
from producer.web.api.sources import Recordings
from producer.web.api.state import Api
from producer.web.api.submitting import job_for

# Of a process that has died: another one goes on after this.
LEASE_S = 30
_PAGE = 50
_MAX_ERRORS = 100

_log = structlog.get_logger()


def is_cancelled(api: Api, batch_id: str) -> bool:
    """Return whether somebody asked to cancel a batch."""
    with server_errors(api.connection):
        return bool(api.connection.exists(_cancel_key(batch_id)))


def ask_to_cancel(api: Api, batch_id: str) -> None:
    """Note that a batch is to be cancelled."""
    with server_errors(api.connection):
        api.connection.set(_cancel_key(batch_id), "1", ex=api.settings.http.keep_s)


def work_on(api: Api, batch_id: str) -> None:
    """Take a batch as far as it goes now, unless somebody is at it."""
    try:
        with _lease(api, batch_id) as is_ours:
            if is_ours:
                _BatchWork(api, batch_id).run()
    except ScribefarmError as error:
        # Asked for again, it goes on.
        _log.warning("batch_waits", batch=batch_id, **error.to_dict())


@contextlib.contextmanager
def _lease(api: Api, batch_id: str) -> Iterator[bool]:
    key, token = _lease_key(batch_id), secrets.token_hex(8)
    with server_errors(api.connection):
        is_ours = bool(api.connection.set(key, token, nx=True, ex=LEASE_S))
    try:
        yield is_ours
    finally:
        if is_ours:
            with server_errors(api.connection):
                api.connection.delete(key)


class _BatchWork:
    """One process's turn at a batch."""

    def __init__(self, api: Api, batch_id: str) -> None:
        self._api, self._connection, self._settings = api, api.connection, api.settings
        self._shelf, self._files = batches_of(api), files_of(api)
        self._batch: BatchRecord = self._shelf.get(batch_id)

    def run(self) -> None:
        """Read lines, cancel what is to be, and finish what has ended."""
        if self._batch.status == "validating":
            self._read_lines()
        if self._batch.status in {"in_progress", "cancelling"}:
            self._stop_if_asked()
            if self._num_left() == 0:
                self._note(status="finalizing", finalizing_at=_now())
        if self._batch.status == "finalizing":
            self._finish()

    def _note(self, **changes: object) -> None:
        self._batch = self._batch.model_copy(update=changes)
        self._shelf.put(self._batch)

    # Lines

    def _read_lines(self) -> None:
        """Enqueue a page of lines after the other; what is kept of them says where to go on."""
        batch = self._batch
        try:
            self._check_number()
            lines = islice(self._numbered(), batch.num_lines, None)
            with HashCache(server=server_name(self._connection)) as cache:
                recordings = Recordings(self._settings, self._files, cache)
                while page := list(islice(lines, _PAGE)):
                    if self._is_stopped():
                        break
                    self._take_page(page, recordings)
        except ServerUnreachable:
            raise
        except ScribefarmError as error:
            self._fail(error)
            return
        if self._batch.num_lines == 0:
            self._fail(InvalidOptions("file", "must have at least one line"))
        elif self._batch.num_damaged == self._batch.num_lines:
            self._note(status="finalizing", finalizing_at=_now())
        else:
            self._note(status="in_progress", in_progress_at=_now())

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        content = self._files.content(self._files.get(self._batch.input_file_id))
        numbered = enumerate(split_lines(content), start=1)
        return ((number, text) for number, text in numbered if text.strip())

    def _check_number(self) -> None:
        most, found = self._settings.http.max_batch_lines, sum(1 for _ in self._numbered())
        if found > most:
            must = f"must have at most {most} lines (http.max_batch_lines)"
            raise OutOfRange("file", must, found)

    def _take_page(self, page: list[tuple[int, bytes]], recordings: Recordings) -> None:
        read = [read_line(number, text, self._batch.endpoint) for number, text in page]
        read = self._once_each(read)
        prepared = [
            self._prepare(line, recordings) if isinstance(line, Line) else line for line in read
        ]
        jobs = [each[1] for each in prepared if isinstance(each, tuple)]
        job_ids = iter(self._enqueue(jobs))
        kept = [
            each[0].kept(next(job_ids)) if isinstance(each, tuple) else each for each in prepared
        ]
        self._keep(kept)

    def _prepare(self, line: Line, recordings: Recordings) -> tuple[Line, Job] | KeptLine:
        settings = self._settings
        try:
            model = chosen_model(self._connection, settings, line.asked.model)
            options = options_of(line.asked, settings, model or settings.model.name)
            fields = recordings.find(line.file) | {
                # By it the farm's own commands show the line.
                "name": line.custom_id,
                "batch": self._batch.id,
                "metadata": {"custom_id": line.custom_id},
            }
            return line, job_for(settings, options, model, **fields)
        except ServerUnreachable:
            raise
        except Refusal as refusal:
            return damaged(line.number, refusal.error, line.custom_id, refusal.param)
        except ScribefarmError as error:
            return damaged(line.number, error, line.custom_id, "file")

    def _enqueue(self, jobs: list[Job]) -> list[str]:
        queue = "default" if "default" in self._settings.worker.queues else None
        while True:
            try:
                submitted = submit_jobs(
                    self._connection,
                    self._settings,
                    jobs,
                    queue=queue or self._settings.worker.queues[0],
                    traceparent=TraceParent.read(self._batch.traceparent),
                )
            except QueueFull:
                self._renew()
                time.sleep(FULL_QUEUE_PAUSE_S)
                if self._is_stopped():
                    return ["" for _ in jobs]
            else:
                note_batch(self._connection, self._settings, self._batch.id)
                return [each.job_id for each in submitted]

    def _once_each(self, read: list[Line | KeptLine]) -> list[Line | KeptLine]:
        """Refuse a custom_id that came before: nobody could tell the answers apart."""
        key, ttl_s = http_key("custom_ids", self._batch.id), self._settings.http.keep_s
        with server_errors(self._connection):
            pipeline = self._connection.pipeline()
            for line in read:
                # Of a page that is read again after a death, each keeps its own.
                pipeline.hsetnx(key, line.custom_id or f"\0{line.number}", line.number)
                pipeline.hget(key, line.custom_id or f"\0{line.number}")
            pipeline.expire(key, ttl_s)
            first = [int(found) for found in pipeline.execute()[1::2][: len(read)]]
        again = InvalidOptions("line: custom_id", "must be the batch's only one of that name")
        return [
            line if number == line.number else damaged(line.number, again, line.custom_id)
            for line, number in zip(read, first, strict=True)
        ]

    def _keep(self, kept: list[KeptLine]) -> None:
        start = self._batch.num_lines
        key = lines_key(self._batch.id)
        stored: Any = {
            str(start + place): line.model_dump_json() for place, line in enumerate(kept)
        }
        with server_errors(self._connection):
            pipeline = self._connection.pipeline()
            pipeline.hset(key, mapping=stored)
            pipeline.expire(key, self._settings.http.keep_s)
            pipeline.execute()
        wrong = [line for line in kept if line.error is not None]
        told = [
            LineError(
                code=(line.error or {}).get("code"),
                line=line.number,
                message=(line.error or {}).get("message"),
                param=(line.error or {}).get("param"),
            )
            for line in wrong
        ]
        self._note(
            num_lines=start + len(kept),
            num_damaged=self._batch.num_damaged + len(wrong),
            errors=[*self._batch.errors, *told][:_MAX_ERRORS],
        )
        self._renew()

    def _fail(self, error: ScribefarmError) -> None:
        told = LineError(code=error.code, message=str(error))
        self._note(status="failed", failed_at=_now(), errors=[told, *self._batch.errors])
        if batch_exists(self._connection, self._batch.id):
            cancel_batch(self._connection, self._settings, self._batch.id)

    # Ends

    def _is_stopped(self) -> bool:
        return _now() >= self._batch.expires_at or is_cancelled(self._api, self._batch.id)

    def _stop_if_asked(self) -> None:
        """Cancel the jobs of a batch that was cancelled, or whose time is up."""
        if self._batch.status == "cancelling" or not self._is_stopped():
            return
        if is_cancelled(self._api, self._batch.id):
            self._note(status="cancelling", cancelling_at=_now())
        elif self._num_left() == 0:
            return
        else:
            self._note(status="cancelling", expired_at=_now())
        if batch_exists(self._connection, self._batch.id):
            cancel_batch(self._connection, self._settings, self._batch.id)

    def _num_left(self) -> int:
        """Return how many of the batch's jobs have not ended."""
        if not batch_exists(self._connection, self._batch.id):
            return 0
        return batch_status(self._connection, self._settings, self._batch.id).counts.left

    def _finish(self) -> None:
        """Count the answers, and give the files that have some their ids."""
        sizes, numbers = {False: 0, True: 0}, {False: 0, True: 0}
        for is_error, line in answer_lines(self._connection, self._batch):
            sizes[is_error] += len(line)
            numbers[is_error] += 1
            if sum(numbers.values()) % _PAGE == 0:
                self._renew()
        output = self._file("output", sizes[False])
        errors = self._file("errors", sizes[True])
        status, at = "completed", "completed_at"
        if self._batch.cancelling_at is not None:
            status, at = "cancelled", "cancelled_at"
        elif self._batch.expired_at is not None:
            status, at = "expired", "expired_at"
        elif not numbers[False] and self._batch.num_damaged == self._batch.num_lines:
            status, at = "failed", "failed_at"
        self._note(
            status=status,
            output_file_id=output,
            error_file_id=errors,
            num_completed=numbers[False],
            num_failed=numbers[True],
            **{at: _now()},
        )

    def _file(self, kind: str, num_bytes: int) -> str | None:
        if not num_bytes:
            return None
        ttl_s = self._settings.http.keep_s
        record = FileRecord(
            # The same each time: this step may be repeated.
            id=f"file-{kind}-{self._batch.id.removeprefix('batch_')}",
            created_at=_now(),
            filename=f"{self._batch.id}_{kind}.jsonl",
            num_bytes=num_bytes,
            purpose="batch_output",
            expires_at=_now() + ttl_s,
            batch=self._batch.id,
        )
        self._files.put_new(record, ttl_s)
        return record.id

    def _renew(self) -> None:
        with server_errors(self._connection):
            self._connection.expire(_lease_key(self._batch.id), LEASE_S)


def _now() -> int:
    return int(time.time())


def _lease_key(batch_id: str) -> str:
    return http_key("lease", batch_id)


def _cancel_key(batch_id: str) -> str:
    return http_key("cancelled", batch_id)
