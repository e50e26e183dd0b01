"""Progress of a few jobs on a terminal: what is waited for, a bar, and the text as it is done."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Self

import redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.spinner import Spinner
from rich.text import Text

from producer.console import format_duration, is_terminal, one_line
from producer.formats import format_timestamp
from producer.progress_lines import Line, read_lines
from producer.queue import read_progress
from producer.stored_fields import stored_number

# Jobs looked at in each update, the next ones in the order asked for: workers take them so, and
# no machine decodes more at once.
_MOST_LOOKED_AT = 100
# As wide as leaves all of the line on a terminal of 80 columns.
_BAR_CELLS = 20
# Rows of the terminal that are not text: bar, title, and what stood there before.
_OTHER_ROWS = 5


class JobsProgress:
    """A bar on stderr that grows with each window of each recording; silent off a terminal.

    Where stdout is a terminal too, the latest lines of one recording stand above it: of the first
    in order that is at work. They go when the whole text is printed.
    """

    def __init__(
        self,
        connection: redis.Redis,
        jobs: Sequence[tuple[str, str]],
        *,
        is_shown: bool = True,
    ) -> None:
        """Show jobs by (id, title), in the order in which their texts will be printed."""
        self._connection = connection
        self._titles = dict(reversed(jobs))
        self._unfinished = dict.fromkeys(job_id for job_id, _ in jobs)
        self._num_jobs = len(self._unfinished)
        self._waiting = Spinner("line")
        self._waits_for: str | None = None
        self._started_at = time.monotonic()
        self._title, self._lines = "", list[Line]()
        self._is_shown = is_shown and is_terminal()
        self._with_text = sys.stdout.isatty()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR_CELLS),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(self._description(), total=self._num_jobs)
        self._live = Live(
            get_renderable=self._view,
            console=Console(stderr=True),
            transient=True,
            # Rich would send what others print on stdout to its own console: stderr.
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def finish_job(self, job_id: str) -> None:
        """Count a job that is done."""
        self._unfinished.pop(job_id, None)
        self._show({})

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Take everything off the terminal while results are printed."""
        self._live.stop()
        yield
        self._start()

    def update(self, waits_for: str | None = None) -> None:
        """Add the parts of the jobs under way; call it every now and then.

        Args:
            waits_for: What must come before any text can, like "loading model base".
        """
        if not self._is_shown:
            return
        self._waits_for = waits_for
        if waits_for is not None:
            return
        looked_at = list(islice(self._unfinished, _MOST_LOOKED_AT))
        self._show(read_progress(self._connection, looked_at))

    def _show(self, under_way: dict[str, dict[str, str]]) -> None:
        """Take the progress hashes of the jobs at work, by id and in order."""
        num_done = self._num_jobs - len(self._unfinished)
        parts = sum(map(_part_done, under_way.values()))
        self._bar.update(self._task, completed=num_done + parts, description=self._description())
        self._title, self._lines = "", []
        for job_id, fields in under_way.items():
            if lines := read_lines(fields.get("lines", "")):
                self._title, self._lines = self._titles[job_id], lines
                break

    def _description(self) -> str:
        num_done = self._num_jobs - len(self._unfinished)
        return f"transcribing, {num_done} of {self._num_jobs} done"

    def _start(self) -> None:
        if self._is_shown:
            self._live.start()

    def _view(self) -> RenderableType:
        """Return what stands on the terminal now: the text that fits, and the bar below."""
        if self._waits_for is not None:
            waited = format_duration(time.monotonic() - self._started_at)
            self._waiting.update(text=Text(f"{one_line(self._waits_for)}, {waited}"))
            return self._waiting
        if not (self._with_text and self._lines):
            return self._bar
        console = self._live.console
        text = Text("\n").join(Text(_timed(line)) for line in self._lines)
        rows = text.wrap(console, console.width)
        latest = rows[-max(1, console.height - _OTHER_ROWS) :]
        if self._num_jobs == 1:
            return Group(*latest, self._bar)
        title = Text(f"==> {one_line(self._title)} <==", no_wrap=True, overflow="ellipsis")
        return Group(title, *latest, self._bar)


@contextlib.contextmanager
def waiting_for(what: str | None) -> Iterator[None]:
    """Say on a terminal what is waited for, as long as it is."""
    if what is None or not is_terminal():
        yield
        return
    console = Console(stderr=True)
    waiting = Spinner("line", text=Text(one_line(what)))
    with Live(waiting, console=console, transient=True, redirect_stdout=False):
        yield


def _timed(line: Line) -> str:
    """Return a line as it will be printed, harmless on a terminal."""
    start, end = format_timestamp(line.start), format_timestamp(line.end)
    return f"[{start} --> {end}] {one_line(line.text.strip())}"


def _part_done(fields: dict[str, str]) -> float:
    duration_s = stored_number(fields.get("duration_s"))
    return min(1.0, stored_number(fields.get("seconds_done")) / duration_s) if duration_s else 0.0
