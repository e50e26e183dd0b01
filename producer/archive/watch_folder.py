"""Watch a folder: what is put there is submitted, and its transcripts are written as they come.

What was done is known by the farm, not here: jobs have the hash of their audio as id. So a watch
that is started anew takes every file again, enqueues none twice, and writes what is missing.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self

import redis

from producer.archive.find import Names, readable
from producer.archive.hash_cache import HashCache
from producer.archive.prepare import Entry, SubmitOptions
from producer.archive.settled_files import SettledFiles
from producer.archive.submit import submit_archive
from producer.batches.export import Exported, Layout, write_transcript
from producer.batches.views import batch_files
from producer.errors import (
    InvalidOptions,
    OutputFailed,
    QueueFull,
    ScribefarmError,
    ServerUnreachable,
)
from producer.events import last_event_id, read_entries
from producer.output_files import OutputStems
from producer.output_places import is_there, locate
from producer.pending import PendingJobs
from producer.result import Failure, Transcript
from producer.settings import Settings
from producer.stored_fields import stored_text
from producer.waiting import RECHECK_S, wait_for_results

# Between two looks; a look that takes long is followed by a pause three times as long.
POLL_S = 2.0
_PAUSE_PER_LOOK = 3.0
# Submitted at once, so that results are written in between: files, and bytes to be hashed.
_MOST_FILES = 100
_MOST_BYTES = 1 << 30
_EVENTS = 1000
_SLICE = 5000

Happening = Literal["queued", "known", "done", "kept", "failed", "problem"]


class Noticed(NamedTuple):
    """What became of one file.

    Attributes:
        name: The recording, by its name in the batch.
        what: `queued` or `known` when it was taken; with results, `done` or `failed` when its job
            has ended; `kept` where other files stand in the place of its results. `problem` if it could not be taken, or its results not be written.
        outputs: The files that were written.
    """

    name: str
    what: Happening
    job_id: str = ""
    outputs: tuple[Path | str, ...] = ()
    error: ScribefarmError | None = None


class Trouble(NamedTuple):
    """What keeps the whole watch from going on; it goes on when that is over."""

    error: ScribefarmError | OSError


@dataclass
class WatchFolder:
    """One folder that is watched.

    Attributes:
        files: Looks through the folder.
        folder: The folder itself, absolute.
        asked: What is asked for every recording; the batch is the same at each start.
        cache: Of hashes, so that a file is read once.
        layout: Where transcripts are written, by the names in the batch; None writes none.
        poll_s: Seconds between two looks.
    """

    connection: redis.Redis
    settings: Settings
    files: SettledFiles
    folder: Path
    asked: SubmitOptions
    cache: HashCache
    layout: Layout | None = None
    poll_s: float = POLL_S
    _waiting: deque[Path] = field(default_factory=deque)
    _pending: PendingJobs = field(default_factory=PendingJobs)
    _stems: OutputStems | None = None
    _look_at: float = 0.0
    _recheck_at: float = 0.0
    _last_event: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pending.close()
        self._forget_names()

    def follow(self) -> Iterator[Noticed | Trouble]:
        """Yield what becomes of each file, for ever; while the server is away, wait for it."""
        while True:
            try:
                yield from self.turn()
            except (ServerUnreachable, QueueFull) as error:
                yield Trouble(error)
                time.sleep(self.poll_s)

    def turn(self) -> Iterator[Noticed | Trouble]:
        """Take what has settled, write what has come, and wait a moment for more.

        Raises:
            ServerUnreachable: the server went away; nothing is lost.
            QueueFull: the farm takes no more now; what is left is taken later.
        """
        if not self._last_event:
            self._last_event = last_event_id(self.connection)
        if time.monotonic() >= self._look_at:
            yield from self._look()
        yield from self._submit()
        yield from self._collect()

    def _look(self) -> Iterator[Trouble]:
        began = time.monotonic()
        self._waiting.extend(self.files.look())
        took_s = time.monotonic() - began
        self._look_at = time.monotonic() + max(self.poll_s, _PAUSE_PER_LOOK * took_s)
        if self.files.error is not None:
            yield Trouble(self.files.error)

    def _submit(self) -> Iterator[Noticed]:
        paths = self._next_files()
        if not paths:
            return
        self._forget_names()
        with Names() as names:
            found = [names.claim(path, self._name_of(path)) for path in paths]
            try:
                for entry in list(
                    submit_archive(self.connection, self.settings, found, self.asked, self.cache)
                ):
                    yield from self._note(entry)
            except ScribefarmError:
                for path in paths:
                    self.files.give_again(path)
                raise

    def _next_files(self) -> list[Path]:
        paths: list[Path] = []
        num_bytes = 0
        while self._waiting and len(paths) < _MOST_FILES and num_bytes < _MOST_BYTES:
            path = self._waiting.popleft()
            paths.append(path)
            try:
                num_bytes += path.stat().st_size
            except OSError:
                continue  # submitting it says why
        return paths

    def _note(self, entry: Entry) -> Iterator[Noticed]:
        name = entry.name or entry.path
        if entry.error is not None:
            yield Noticed(name, "problem", error=entry.error)
        elif self.layout is None:
            what: Happening = "queued" if entry.verdict == "new" else "known"
            yield Noticed(name, what, entry.job_id)
        elif entry.verdict == "new" or not self._is_written(name):
            self._pending.add([(name, entry.job_id)])
            if entry.verdict != "new":
                yield from self._write([entry.job_id])

    def _collect(self) -> Iterator[Noticed]:
        """Write the results of jobs that have ended, waiting for such until the next look."""
        wait_s = 0.0 if self._waiting else max(0.0, self._look_at - time.monotonic())
        if not self._pending:
            time.sleep(min(wait_s, self.poll_s))
            return
        entries = read_entries(self.connection, self._last_event, _EVENTS, min(wait_s, self.poll_s))
        if entries:
            self._last_event = entries[-1][0].decode()
        named = (stored_text(fields[b"job_id"]) for _, fields in entries if b"job_id" in fields)
        ended = [job_id for job_id in dict.fromkeys(named) if job_id in self._pending]
        if time.monotonic() >= self._recheck_at:
            ended += self._pending.next_slice(_SLICE)
            self._recheck_at = time.monotonic() + RECHECK_S
        yield from self._write(ended)

    def _write(self, job_ids: list[str]) -> Iterator[Noticed]:
        if not job_ids:
            return
        for result in wait_for_results(self.connection, job_ids, 0.0):
            for name in self._pending.names_of(result.job_id):
                yield self._outcome(name, result)
            self._pending.finish(result.job_id)

    def _outcome(self, name: str, result: Transcript | Failure) -> Noticed:
        if isinstance(result, Failure):
            error = ScribefarmError.from_dict(result.error.model_dump())
            return Noticed(name, "failed", result.job_id, error=error)
        outputs: list[Path | str] = []
        what: Happening = "done"
        for item in self._export(name, result):
            if item.error is not None:
                return Noticed(name, "problem", result.job_id, tuple(outputs), item.error)
            if item.status == "written" and item.path is not None:
                outputs.append(item.path)
            if item.status == "kept":
                what = "kept"
        return Noticed(name, what, result.job_id, tuple(outputs))

    def _export(self, name: str, transcript: Transcript) -> Iterator[Exported]:
        if self.layout is not None:
            yield from write_transcript(name, self._stem_of(name), transcript, self.layout)

    def _is_written(self, name: str) -> bool:
        """Return whether all outputs of a recording are there, of whatever content."""
        if self.layout is None:
            return True
        stem = self._stem_of(name)
        try:
            places = [locate(self.layout.folder, stem, each) for each in self.layout.formats]
            return all(is_there(self.layout.folder, each) for each in places)
        except (InvalidOptions, OutputFailed):
            return False  # writing it says why

    def _name_of(self, path: Path) -> str:
        return readable(str(path.relative_to(self.folder.parent)))

    def _stem_of(self, name: str) -> str:
        """Return the stem of a recording's outputs, as `results` has it for the whole batch."""
        if self._stems is None:
            files = batch_files(self.connection, self.asked.batch)
            self._stems = OutputStems(name for name, _ in files)
        return self._stems.of(name)

    def _forget_names(self) -> None:
        if self._stems is not None:
            self._stems.__exit__()
            self._stems = None
