"""Watch a batch: counts, speed and time left, cheap enough to ask every second.

A batch is read once; after that only files that events name, and a slice of the others, are
looked up again, so watching a hundred thousand files costs the server next to nothing.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import redis
from pydantic import BaseModel, ConfigDict, Field

from producer.batches.views import (
    BatchCounts,
    FileView,
    batch_files,
    batch_size,
    count,
    view_files,
)
from producer.connection import server_time_s
from producer.events import last_event_id, read_events
from producer.fleet import WorkerView, is_suspended, live_workers
from producer.queue import read_progress
from producer.settings import Settings
from producer.stored_fields import stored_number

# Speed is measured over the last minutes: long enough for a time left within 15 % (eight workers on
# files of 5 to 60 s: at worst 11 % in forty simulated nights), short enough to notice a new worker.
SPEED_WINDOW_S = 600.0

# Files looked up again at every refresh, beside those that events name.
_SLICE = 2000

# Changes that no event tells of, such as a retry from another terminal, show after this.
_FULL_READ_S = 60.0

# Below this the speed is mostly chance.
_MIN_FILES_FOR_SPEED = 2


class Running(BaseModel):
    """A file that a worker is transcribing."""

    model_config = ConfigDict(frozen=True)

    name: str
    job_id: str
    worker: str = ""
    seconds_done: float = 0.0
    duration_s: float | None = None
    text: str = Field("", description="The latest words.")

    @property
    def part_done(self) -> float:
        """Return how much of the file is done, from 0 to 1."""
        return min(1.0, self.seconds_done / self.duration_s) if self.duration_s else 0.0


class Speed(NamedTuple):
    """What the farm gets done.

    Attributes:
        files_per_s: Files that ended, failed ones too.
        audio_s_per_s: Seconds of audio per second: audio hours per hour.
    """

    files_per_s: float
    audio_s_per_s: float


class BatchStatus(BaseModel):
    """A batch at one moment: counts, what runs, speed and time left."""

    model_config = ConfigDict(frozen=True)

    batch: str
    counts: BatchCounts
    running: list[Running] = []
    workers: list[WorkerView] = []
    is_paused: bool = False
    files_per_s: float | None = Field(None, description="None: too little has ended of late.")
    audio_hours_per_hour: float | None = None
    eta_s: float | None = Field(None, description="Seconds until the batch is done, if known.")

    @property
    def is_done(self) -> bool:
        """Return whether every file has ended."""
        return self.counts.left == 0


class BatchWatch:
    """Keeps the status of one batch up to date; see the module for the costs."""

    def __init__(self, connection: redis.Redis, settings: Settings, batch: str) -> None:
        self._connection, self._settings, self._batch = connection, settings, batch
        self._views: dict[str, FileView] = {}
        self._open: dict[str, list[str]] = {}
        self._to_look_at: deque[str] = deque()
        self._last_event = "0-0"
        self._num_files = 0
        self._read_at = float("-inf")

    def refresh(self) -> BatchStatus:
        """Look up what changed and return the batch's state.

        Raises:
            JobNotFound: the server does not know the batch.
            ServerUnreachable: the server does not answer.
        """
        num_files = batch_size(self._connection, self._batch)
        is_stale = time.monotonic() - self._read_at > _FULL_READ_S
        if num_files != self._num_files or is_stale:
            self._read_all(num_files)
        else:
            self._read_changes()
        return self._status()

    def _read_all(self, num_files: int) -> None:
        # Before the files, so that what ends in between is seen twice rather than never.
        self._last_event = last_event_id(self._connection)
        files = batch_files(self._connection, self._batch)
        self._views = {view.name: view for view in view_files(self._connection, files)}
        self._num_files, self._read_at = num_files, time.monotonic()
        self._open.clear()
        for view in self._views.values():
            if not view.is_done:
                self._open.setdefault(view.job_id, []).append(view.name)
        self._to_look_at = deque(self._open)

    def _read_changes(self) -> None:
        due: set[str] = set()
        for event in read_events(self._connection, self._last_event):
            self._last_event = event.id
            if event.job_id in self._open:
                due.add(event.job_id)
        due.update(self._next_slice())
        files = [(name, job_id) for job_id in due for name in self._open[job_id]]
        for view in view_files(self._connection, files):
            self._views[view.name] = view
            if view.is_done:
                self._open.pop(view.job_id, None)

    def _next_slice(self) -> list[str]:
        """Return the running jobs, and the next `_SLICE` of all that have not ended."""
        running = [view.job_id for view in self._running()]
        turn: list[str] = []
        for _ in range(min(_SLICE, len(self._to_look_at))):
            job_id = self._to_look_at.popleft()
            if job_id in self._open:
                self._to_look_at.append(job_id)
                turn.append(job_id)
        return running + turn

    def _running(self) -> list[FileView]:
        views = (self._views[names[0]] for names in self._open.values())
        return [view for view in views if view.state == "running"]

    def _status(self) -> BatchStatus:
        counts = count(self._views.values())
        running = _with_progress(self._connection, self._running())
        speed = measure_speed(self._views.values(), server_time_s(self._connection))
        left = counts.left - sum(file.part_done for file in running)
        return BatchStatus(
            batch=self._batch,
            counts=counts,
            running=running,
            workers=live_workers(self._connection, self._settings),
            is_paused=is_suspended(self._connection),
            files_per_s=speed and speed.files_per_s,
            audio_hours_per_hour=speed and speed.audio_s_per_s,
            eta_s=left / speed.files_per_s if speed else None,
        )


def batch_status(connection: redis.Redis, settings: Settings, batch: str) -> BatchStatus:
    """Return a batch's status.

    Raises:
        JobNotFound: the server does not know the batch.
    """
    return BatchWatch(connection, settings, batch).refresh()


def measure_speed(views: Iterable[FileView], now_s: float) -> Speed | None:
    """Return the speed over the last `SPEED_WINDOW_S`; None if too few files ended in it.

    The window starts with the first work on the batch if that is later.
    """
    since_s = now_s - SPEED_WINDOW_S
    first_s, num_ended, audio_s = now_s, 0, 0.0
    for view in views:
        if view.started_at_s is None:
            continue
        first_s = min(first_s, view.started_at_s)
        if view.ended_at_s is not None and since_s < view.ended_at_s <= now_s:
            num_ended += 1
            audio_s += view.audio_s
    elapsed_s = now_s - max(first_s, since_s)
    if num_ended < _MIN_FILES_FOR_SPEED or elapsed_s <= 0:
        return None
    return Speed(num_ended / elapsed_s, audio_s / elapsed_s)


def _with_progress(connection: redis.Redis, views: list[FileView]) -> list[Running]:
    progress = read_progress(connection, [view.job_id for view in views])
    return [_running(view, progress.get(view.job_id, {})) for view in views]


def _running(view: FileView, fields: dict[str, str]) -> Running:
    duration_s = stored_number(fields.get("duration_s"))
    return Running(
        name=view.name,
        job_id=view.job_id,
        worker=view.worker,
        seconds_done=stored_number(fields.get("seconds_done")),
        duration_s=duration_s or None,
        text=fields.get("text", ""),
    )
