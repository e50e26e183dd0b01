"""What the HTTP front keeps in the server: records as JSON, listed by age, few and for a time."""

import secrets
import time
from collections.abc import Iterator
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import redis
from pydantic import BaseModel, ConfigDict, ValidationError

from producer.connection import server_errors
from producer.errors import InvalidOptions, JobNotFound, QueueFull, SourceNotFound, Unreadable
from producer.keys import http_key
from producer.stored_fields import stored_text
from producer.uploads import stored_pieces
from producer.web.api.shapes import FileShape, LineError, Status

# Listed at once, as OpenAI has it.
MAX_LISTED = 100
# Records looked up at once, to drop those that have expired from the list.
_PAGE = 500

T = TypeVar("T", bound="Record")


class Record(BaseModel):
    """What is kept of a file or a batch; a field that a later version adds has a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    created_at: int


class FileRecord(Record):
    """A file.

    Attributes:
        source: Of a recording: what a job says of it.
        sha256: Of its bytes.
        batch: Of a batch's output: the batch from whose results it is made when it is read.
    """

    filename: str
    num_bytes: int
    purpose: Literal["batch", "batch_output", "user_data"]
    expires_at: int
    source: str = ""
    sha256: str = ""
    batch: str = ""

    def shape(self) -> FileShape:
        """Return the file as OpenAI shows it."""
        return FileShape(
            id=self.id,
            bytes=self.num_bytes,
            created_at=self.created_at,
            expires_at=self.expires_at,
            filename=self.filename,
            purpose=self.purpose,
        )


class BatchRecord(Record):
    """A batch; its times are seconds since the epoch.

    Attributes:
        traceparent: Of the request that made it; all its jobs belong to that trace.
        num_lines: Lines that were read so far, all of them once it is `in_progress`.
        num_damaged: Those of them that became no job.
        errors: The first of these.
    """

    input_file_id: str
    endpoint: str
    completion_window: str
    expires_at: int
    traceparent: str
    metadata: dict[str, str] | None = None
    status: Status = "validating"
    num_lines: int = 0
    num_damaged: int = 0
    num_completed: int = 0
    num_failed: int = 0
    errors: list[LineError] = []
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None


class Listed(NamedTuple):
    """A page of records, the newest first unless asked otherwise."""

    records: list[Any]
    has_more: bool


class Shelf(Generic[T]):
    """The records of one kind."""

    def __init__(
        self, connection: redis.Redis, kind: str, model: type[T], most: int, keep_s: int
    ) -> None:
        """Take what the shelf is.

        Args:
            connection: To the server.
            kind: What a record is called, in keys and messages.
            model: What it is.
            most: Records kept at once.
            keep_s: The longest that one is kept.
        """
        self._connection, self._kind, self._model = connection, kind, model
        self._most, self._keep_s = most, keep_s
        self._index = http_key(f"{kind}s", "all")

    def put_new(self, record: T, ttl_s: int) -> None:
        """Keep a new record.

        Raises:
            QueueFull: there are too many.
        """
        with server_errors(self._connection):
            if int(self._connection.zcard(self._index)) >= self._most:
                self._forget_expired()
            if (count := int(self._connection.zcard(self._index))) >= self._most:
                must = f"keeps at most {self._most} {self._kind} records; delete some"
                raise QueueFull("http", must, count)
            pipeline = self._connection.pipeline()
            pipeline.set(self._key(record.id), record.model_dump_json(), ex=ttl_s)
            # Of one second they come in the order in which they were made.
            pipeline.zadd(self._index, {record.id: time.time()})
            pipeline.expire(self._index, self._keep_s)
            pipeline.execute()

    def put(self, record: T) -> None:
        """Write a record that is there; one that was deleted meanwhile stays so."""
        with server_errors(self._connection):
            self._connection.set(
                self._key(record.id), record.model_dump_json(), xx=True, keepttl=True
            )

    def get(self, record_id: str) -> T:
        """Return a record.

        Raises:
            JobNotFound: there is none.
            Unreadable: another program damaged it.
        """
        with server_errors(self._connection):
            stored: Any = self._connection.get(self._key(record_id))
        if stored is None:
            raise JobNotFound(self._kind, "must be known to the server", record_id[:100])
        return self._read(stored)

    def delete(self, record_id: str) -> None:
        """Drop a record."""
        with server_errors(self._connection):
            pipeline = self._connection.pipeline()
            pipeline.delete(self._key(record_id))
            pipeline.zrem(self._index, record_id)
            pipeline.execute()

    def page(self, after: str | None, limit: int, *, oldest_first: bool = False) -> Listed:
        """Return the records behind one of them, or the first ones.

        Raises:
            InvalidOptions: `after` is no record of the list.
        """
        found: list[T] = []
        for record in self._walk(after, oldest_first=oldest_first):
            if len(found) == limit:
                return Listed(found, has_more=True)
            found.append(record)
        return Listed(found, has_more=False)

    def _walk(self, after: str | None, *, oldest_first: bool) -> Iterator[T]:
        connection = self._connection
        rank_of = connection.zrank if oldest_first else connection.zrevrank
        ids_of = connection.zrange if oldest_first else connection.zrevrange
        with server_errors(connection):
            rank: Any = -1 if after is None else rank_of(self._index, after)
        if rank is None:
            raise InvalidOptions("request: after", f"must be a {self._kind}'s id", after)
        start = int(rank) + 1
        while True:
            with server_errors(connection):
                ids: Any = ids_of(self._index, start, start + MAX_LISTED - 1)
                if not ids:
                    return
                stored: Any = connection.mget([self._key(stored_text(each)) for each in ids])
            start += len(ids)
            yield from (self._read(document) for document in stored if document is not None)

    def _forget_expired(self) -> None:
        gone: list[bytes] = []
        start = 0
        while ids := self._ids(start):
            keys = [self._key(stored_text(each)) for each in ids]
            stored: Any = self._connection.mget(keys)
            gone += [each for each, document in zip(ids, stored, strict=True) if document is None]
            start += _PAGE
        if gone:
            self._connection.zrem(self._index, *gone)

    def _ids(self, start: int) -> list[bytes]:
        ids: Any = self._connection.zrange(self._index, start, start + _PAGE - 1)
        return list(ids)

    def _key(self, record_id: str) -> str:
        return http_key(self._kind, record_id)

    def _read(self, stored: bytes) -> T:
        try:
            return self._model.model_validate_json(stored)
        except ValidationError as error:
            raise Unreadable(self._kind, "must be a record of ours") from error


class Files(Shelf[FileRecord]):
    """The files; the bytes of those with lines are in the server, beside their record."""

    def content(self, record: FileRecord) -> Iterator[bytes]:
        """Yield the bytes of a file with lines.

        Raises:
            SourceNotFound: they are gone.
        """
        gone = SourceNotFound("file", "must lie in the server; it was deleted", record.id)
        with server_errors(self._connection):
            yield from stored_pieces(self._connection, content_key(record.id), gone)

    def delete(self, record_id: str) -> None:
        """Drop a file and its lines; a recording stays for those who wait for its text."""
        super().delete(record_id)
        with server_errors(self._connection):
            self._connection.delete(content_key(record_id))


def content_key(file_id: str) -> str:
    """Key of the bytes of a file with lines."""
    return http_key("content", file_id)


def new_id(prefix: str) -> str:
    """Return an id that nobody can guess."""
    return prefix + secrets.token_hex(12)
