"""Look at all files of a batch of any size, a page at a time.

Each job's own hash tells, so that nothing another program did to it is missed. Of a large batch the
records tell that the scripts keep of what ended (`producer/lua/ended.lua`), as right as its counts:
a million files take half the time.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import redis

from producer.batches.counts import MOST_DAILY
from producer.batches.survey import EndedFiles, Recorded, Survey
from producer.batches.views import view_files
from producer.batches.worked_time import Bounds
from producer.connection import server_errors
from producer.keys import batch_key
from producer.scripts import Scripts
from producer.states import STATE_OF_RQ_STATUS

# Files in one script call: about 10 ms, in which the server does nothing else.
_PAGE = 2000
# What is neither one of them nor a record is looked up.
_UNENDED = frozenset(STATE_OF_RQ_STATUS.values()) - {"succeeded", "failed"}
# An answer comes in pieces of 64 KiB, each a turn: of a million files they are five seconds.
_TURN_S = 0.0002
# A scan may repeat files while the batch grows; then it is done again, so often at most.
_MAX_SCANS = 3


def survey(
    connection: redis.Redis, batch: str, bounds: Bounds | None = None, *, limit: int | None = None
) -> Survey:
    """Look at all files of a batch; `limit` bounds each list of files by name, None does not.

    Raises:
        ServerUnreachable: the server went away.
    """
    for _ in range(_MAX_SCANS):
        size_before = _size(connection, batch)
        found = Survey(bounds or Bounds(), limit)
        scan(connection, batch, found, by_records=size_before > MOST_DAILY)
        if found.counts.total == size_before == _size(connection, batch):
            break
    return found


def _size(connection: redis.Redis, batch: str) -> int:
    with server_errors(connection):
        return int(connection.hlen(batch_key(batch)))


def scan(connection: redis.Redis, batch: str, found: Survey, *, by_records: bool) -> None:
    """Add all files of a batch to a survey, by the records of those that ended or by each job."""
    scripts = Scripts(connection)

    def look(cursor: str) -> list[Any]:
        with server_errors(connection):
            answer: list[Any] = scripts.run(
                "survey", batch=batch, cursor=cursor, count=_PAGE, by_records=by_records
            )
        return answer

    # The server looks at the next page while we add up the last one.
    with ThreadPoolExecutor(max_workers=1) as server, _quick_turns():
        pending: Future[list[Any]] | None = server.submit(look, "0")
        while pending:
            next_cursor, *page = pending.result()
            cursor = next_cursor.decode()
            pending = None if cursor == "0" else server.submit(look, cursor)
            _add_page(connection, found, *map(_texts, page))


@contextmanager
def _quick_turns() -> Iterator[None]:
    """Let a thread that reads an answer have its turn at once, not after Python's 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _texts(document: bytes) -> list[str]:
    # Lua's empty list is an object of JSON.
    return list(json.loads(document.decode(errors="surrogateescape")))


def _readable(texts: list[str]) -> list[str]:
    """Return texts whose bytes are all of UTF-8, those that are not as escapes."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return [
            text.encode(errors="surrogateescape").decode(errors="backslashreplace")
            for text in texts
        ]
    return texts


def _add_page(connection: redis.Redis, found: Survey, files: list[str], records: list[str]) -> None:
    names, job_ids = _readable(files[0::2]), _readable(files[1::2])
    odd: list[tuple[str, str]] = []
    by_label: defaultdict[str, list[Recorded]] = defaultdict(list)
    for name, job_id, record in zip(names, job_ids, records, strict=True):
        label, is_record, numbers = record.partition("\n")
        if is_record:
            by_label[label].append((name, job_id, numbers))
        elif record in _UNENDED:
            found.add_unended(name, record)
        else:
            odd.append((name, job_id))
    for label, recorded in by_label.items():
        odd += _add_ended(found, label, recorded)
    found.add_views(view_files(connection, odd))


def _add_ended(found: Survey, label: str, recorded: list[Recorded]) -> list[tuple[str, str]]:
    """Add files of one label; return name and job id of those whose record is none."""
    try:
        files = EndedFiles.parse(_readable([label])[0], recorded)
    except ValueError:
        if len(recorded) > 1:
            return [odd for each in recorded for odd in _add_ended(found, label, [each])]
        return [(name, job_id) for name, job_id, _ in recorded]
    found.add_ended(files)
    return []
