"""Progress of a few jobs on a terminal."""

import contextlib
from collections.abc import Iterator
from typing import Self

import redis
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from producer.console import is_terminal
from producer.pending import PendingJobs
from producer.queue import read_progress


class JobsProgress:
    """A bar on stderr that grows with each window of each recording; silent off a terminal."""

    def __init__(self, connection: redis.Redis, num_jobs: int, *, is_shown: bool = True) -> None:
        self._connection = connection
        self._num_jobs = num_jobs
        self._num_done = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            # Rich would send what others print on stdout to its own console: stderr.
            redirect_stdout=False,
            disable=not (is_shown and is_terminal()),
        )
        self._task = self._progress.add_task(self._description(), total=num_jobs)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def finish_job(self) -> None:
        """Count a job that is done."""
        self._num_done += 1
        self._progress.update(self._task, completed=self._num_done, description=self._description())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar off the terminal while results are printed."""
        self._progress.stop()
        yield
        self._progress.start()

    def update(self, pending: PendingJobs) -> None:
        """Add the parts of the jobs under way; call it every now and then."""
        if self._progress.disable:
            return
        under_way = read_progress(self._connection, list(pending))
        parts = sum(_part_done(fields) for fields in under_way.values())
        self._progress.update(self._task, completed=self._num_done + parts)

    def _description(self) -> str:
        return f"transcribing, {self._num_done} of {self._num_jobs} done"


def _part_done(fields: dict[str, str]) -> float:
    duration_s = float(fields.get("duration_s", 0))
    return min(1.0, float(fields.get("seconds_done", 0)) / duration_s) if duration_s else 0.0
