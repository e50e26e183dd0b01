"""The lines of a batch become jobs, a page at a time: what is kept of them says where to go on."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from producer.archive.hash_cache import HashCache
from producer.archive.submission_log import SubmissionLog
from producer.archive.submit import submit_jobs
from producer.batches.views import note_batch
from producer.connection import server_errors, server_name
from producer.errors import (
    ERRORS,
    Internal,
    InvalidOptions,
    OutOfRange,
    ScribefarmError,
    ServerUnreachable,
)
from producer.job import Job
from producer.keys import http_key
from producer.traces import TraceParent
from producer.web.api.asked import options_of
from producer.web.api.batch_lines import KeptLine, Line, damaged, read_line, split_lines
from producer.web.api.batch_output import lines_key
from producer.web.api.batch_turn import BatchTurn
from producer.web.api.errors import Refusal
from producer.web.api.model_choice import chosen_model
from producer.web.api.room import Room
from producer.web.api.shapes import LineError
from producer.web.api.sources import Recordings
from producer.web.api.submitting import job_for

PAGE = 50
# Shown in the batch itself; its error file has them all.
_MAX_ERRORS = 100
# What is kept of a line, at most: its custom_id twice, its request or its error.
_KEPT_BYTES = 2000


def read_lines(turn: BatchTurn) -> None:
    """Enqueue the lines from where an earlier turn stopped.

    Raises:
        OutOfRange: there are more than http.max_batch_lines.
        InvalidOptions: there is none.
        QueueFull: queue.max_queued jobs wait, or there is no room; a later turn goes on.
        ScribefarmError: the file is gone, or the server.
    """
    _check_number(turn)
    lines = islice(_numbered(turn), turn.batch.num_lines, None)
    # What the farm's own report says of the batch, and when all of it is in.
    log = SubmissionLog(turn.connection, turn.settings, turn.batch.id)
    cached = HashCache(server=server_name(turn.connection))
    with log.until_the_end(), cached as cache:
        reading = _Reading(turn, Recordings(turn.settings, turn.files, cache), log)
        while not turn.is_stopped() and (page := list(islice(lines, PAGE))):
            reading.take(page)


def _numbered(turn: BatchTurn) -> Iterator[tuple[int, bytes]]:
    content = turn.files.content(turn.files.get(turn.batch.input_file_id))
    numbered = enumerate(split_lines(content), start=1)
    return ((number, text) for number, text in numbered if text.strip())


def _check_number(turn: BatchTurn) -> None:
    most, found = turn.settings.http.max_batch_lines, sum(1 for _ in _numbered(turn))
    if found > most:
        must = f"must have at most {most} lines (http.max_batch_lines)"
        raise OutOfRange("file", must, found)
    if not found:
        raise InvalidOptions("file", "must have at least one line")
    room = Room(turn.connection, turn.settings)
    room.take(turn.batch.id, found * _KEPT_BYTES, turn.settings.http.keep_s)


class _Reading:
    """What the lines of one turn have in common."""

    def __init__(self, turn: BatchTurn, recordings: Recordings, log: SubmissionLog) -> None:
        self._turn, self._recordings, self._log = turn, recordings, log

    def take(self, page: list[tuple[int, bytes]]) -> None:
        """Enqueue the sound lines of a page, and keep what becomes of each."""
        endpoint = self._turn.batch.endpoint
        read = self._once_each([read_line(number, text, endpoint) for number, text in page])
        prepared = [self._prepared(line) if isinstance(line, Line) else line for line in read]
        jobs = [each[1] for each in prepared if isinstance(each, tuple)]
        job_ids = iter(self._enqueued(jobs))
        self._keep(
            [each[0].kept(next(job_ids)) if isinstance(each, tuple) else each for each in prepared]
        )

    def _once_each(self, read: list[Line | KeptLine]) -> list[Line | KeptLine]:
        """Refuse a custom_id that came before: nobody could tell the answers apart."""
        key = http_key("custom_ids", self._turn.batch.id)
        with server_errors(self._turn.connection):
            pipeline = self._turn.connection.pipeline()
            for line in read:
                # Of a page that is read again after a death, each keeps its own.
                pipeline.hsetnx(key, line.custom_id or f"\0{line.number}", line.number)
                pipeline.hget(key, line.custom_id or f"\0{line.number}")
            pipeline.expire(key, self._turn.settings.http.keep_s)
            first = [int(found) for found in pipeline.execute()[1::2][: len(read)]]
        again = InvalidOptions("line: custom_id", "must be the batch's only one of that name")
        return [
            line if number == line.number else damaged(line.number, again, line.custom_id)
            for line, number in zip(read, first, strict=True)
        ]

    def _prepared(self, line: Line) -> tuple[Line, Job] | KeptLine:
        turn, settings = self._turn, self._turn.settings
        # A large recording on a share takes a while to hash.
        turn.renew()
        try:
            model = chosen_model(turn.connection, settings, line.asked.model)
            options = options_of(line.asked, settings, model or settings.model.name)
            fields = self._recordings.find(line.file) | {
                # By it the farm's own commands show the line.
                "name": line.custom_id,
                "batch": turn.batch.id,
                "metadata": {"custom_id": line.custom_id},
            }
            return line, job_for(settings, options, model, **fields)
        except ServerUnreachable:
            raise
        except Refusal as refusal:
            return damaged(line.number, refusal.error, line.custom_id, refusal.param)
        except ScribefarmError as error:
            return damaged(line.number, error, line.custom_id, "file")

    def _enqueued(self, jobs: list[Job]) -> list[str]:
        turn, queues = self._turn, self._turn.settings.worker.queues
        submitted = submit_jobs(
            turn.connection,
            turn.settings,
            jobs,
            # Behind those for which somebody waits.
            queue="default" if "default" in queues else queues[0],
            traceparent=TraceParent.read(turn.batch.traceparent),
        )
        note_batch(turn.connection, turn.settings, turn.batch.id)
        return [each.job_id for each in submitted]

    def _keep(self, kept: list[KeptLine]) -> None:
        turn, start = self._turn, self._turn.batch.num_lines
        stored: Any = {
            str(start + place): line.model_dump_json() for place, line in enumerate(kept)
        }
        with server_errors(turn.connection):
            pipeline = turn.connection.pipeline()
            pipeline.hset(lines_key(turn.batch.id), mapping=stored)
            pipeline.expire(lines_key(turn.batch.id), turn.settings.http.keep_s)
            pipeline.execute()
        wrong = [_told(line) for line in kept if line.error is not None]
        turn.note(
            num_lines=start + len(kept),
            num_damaged=turn.batch.num_damaged + len(wrong),
            errors=[*turn.batch.errors, *wrong][:_MAX_ERRORS],
        )
        turn.renew()
        self._log_page(kept)

    def _log_page(self, kept: list[KeptLine]) -> None:
        for line in kept:
            if line.error is None:
                self._log.count("new")
                continue
            told = _told(line)
            error_type = ERRORS.get(told.code or "", Internal)
            error = error_type(f"line {line.number}", told.message or "")
            self._log.problem(line.custom_id or f"line {line.number}", error)
        self._log.page_done()


def _told(line: KeptLine) -> LineError:
    error = line.error or {}
    named = {name: error.get(name) for name in ("code", "message", "param")}
    return LineError(line=line.number, **named)
