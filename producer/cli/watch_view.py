"""The output of `watch` and `status`: live on a terminal, plain lines elsewhere, JSON."""

import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.batches.views import BatchCounts
from producer.batches.watching import BatchStatus, BatchWatch, Running
from producer.cli.session import Session
from producer.console import emit
from producer.fleet import FarmStatus, WorkerView, farm_status
from producer.models_served import shown, unserved, unserved_lines

_LIVE_EVERY_S = 1.0
_LINES_EVERY_S = 10.0
_MAX_RUNNING = 12
# The latest words, beside the name, on a terminal of 110 columns.
_TEXT_WIDTH = 60
_REVISION_CHARS = 8


def show_batch(
    session: Session, batch: str, *, every_s: float | None, as_json: bool
) -> BatchStatus:
    """Show a batch until it is done and return the last look."""
    watch = BatchWatch(session.connection, session.settings, batch)
    console = Console()
    if as_json or not console.is_terminal:
        return _show_lines(watch, every_s or _LINES_EVERY_S, as_json=as_json)
    return _show_live(watch, console, every_s or _LIVE_EVERY_S)


def show_farm(session: Session, *, as_json: bool) -> None:
    """Print workers, queues and the latest batches."""
    farm = farm_status(session.connection, session.settings)
    emit(farm.model_dump_json() if as_json else "\n".join(_farm_lines(farm)))


def status_lines(look: BatchStatus) -> Iterator[str]:
    """Yield a batch's state for people."""
    counts = look.counts
    yield f"batch {look.batch}: {counts.done} of {counts.total} files done"
    yield f"  succeeded {counts.succeeded}, {_hours(counts.audio_s)} of audio"
    yield f"  failed {_failed(counts)}"
    yield f"  running {counts.running}, queued {counts.queued}, waiting {counts.waiting}"
    if counts.lost:
        yield f"  expired or deleted {counts.lost}"
    yield f"  {_speed(look)}"
    yield f"  {_workers(look)}"
    if look.models:
        yield f"  model {_models(look.models)}"
    for line in unserved_lines(look.unserved):
        yield f"  {line}"
    for file in look.running[:_MAX_RUNNING]:
        yield f"  {_position(file)}  {file.name}"


def plain_line(look: BatchStatus) -> str:
    """Return one look as one line of a log."""
    counts = look.counts
    return (
        f"{time.strftime('%H:%M:%S')} {counts.done}/{counts.total} done"
        f", {_failed(counts)} failed, {counts.running} running, {counts.queued} queued"
        f", {_hours(counts.audio_s)} of audio, {_speed(look)}, {_workers(look)}"
        + "".join(f"; {line}" for line in unserved_lines(look.unserved))
    )


def _show_lines(watch: BatchWatch, every_s: float, *, as_json: bool) -> BatchStatus:
    while True:
        look = watch.refresh()
        emit(look.model_dump_json() if as_json else plain_line(look))
        if look.is_done:
            return look
        _pause(watch, every_s)


def _pause(watch: BatchWatch, every_s: float) -> None:
    """Wait for the next look, or for the end of the batch if that comes first."""
    deadline = time.monotonic() + every_s
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(_LIVE_EVERY_S, left_s))
        if left_s > _LIVE_EVERY_S and watch.refresh().is_done:
            return


def _show_live(watch: BatchWatch, console: Console, every_s: float) -> BatchStatus:
    look = watch.refresh()
    # We say when to draw: between looks nothing changes, so nothing can flicker.
    with Live(_live_view(look), console=console, auto_refresh=False) as live:
        while not look.is_done:
            time.sleep(every_s)
            look = watch.refresh()
            live.update(_live_view(look), refresh=True)
    return look


def _live_view(look: BatchStatus) -> RenderableType:
    counts = look.counts
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(look.batch, style="bold"),
        ProgressBar(total=max(1, counts.total), completed=counts.done, width=40),
        f"{counts.done} of {counts.total}",
        _speed(look),
    )
    facts = Table.grid(padding=(0, 2))
    facts.add_row("succeeded", f"{counts.succeeded}, {_hours(counts.audio_s)} of audio")
    facts.add_row("failed", Text(_failed(counts), style="red" if counts.failed else ""))
    facts.add_row("running", str(counts.running))
    facts.add_row("queued", f"{counts.queued}, waiting {counts.waiting}")
    facts.add_row("workers", Text(_workers(look), style="" if look.workers else "yellow"))
    facts.add_row("model", Text(_models(look.models)))
    for line in unserved_lines(look.unserved):
        facts.add_row("", Text(_one_line(line), style="yellow"))
    files = Table.grid(padding=(0, 2))
    files.add_column(width=6, justify="right")
    files.add_column(max_width=40, no_wrap=True, overflow="ellipsis")
    files.add_column(no_wrap=True, overflow="ellipsis")
    for file in look.running[:_MAX_RUNNING]:
        # Text, not markup: names may hold square brackets.
        latest = _one_line(file.text)[-_TEXT_WIDTH:]
        files.add_row(_position(file), Text(_one_line(file.name)), Text(latest))
    return Group(head, facts, files)


def _position(file: Running) -> str:
    return f"{100 * file.part_done:.0f} %" if file.duration_s else "..."


def _failed(counts: BatchCounts) -> str:
    codes = ", ".join(f"{code} {num}" for code, num in counts.failed_by_code.items())
    return f"{counts.failed} ({codes})" if codes else "0"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def _speed(look: BatchStatus) -> str:
    if look.is_done:
        return "done"
    if look.audio_hours_per_hour is None:
        return "speed not known yet"
    rate = f"{look.audio_hours_per_hour:.1f} audio hours an hour"
    return f"{rate}, {_duration(look.eta_s)} left" if look.eta_s is not None else rate


def _duration(seconds: float) -> str:
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {secs:02d} s" if minutes else f"{secs} s"


def _workers(look: BatchStatus) -> str:
    paused = " (the farm is paused: scribefarm resume)" if look.is_paused else ""
    if not look.workers:
        return f"no worker is alive; start one: scribefarm-worker run{paused}"
    busy = Counter(file.worker for file in look.running)
    plural = "" if len(look.workers) == 1 else "s"
    return f"{len(look.workers)} worker{plural}, {len(busy)} on this batch{paused}"


def _models(labels: list[str]) -> str:
    return _one_line(", ".join(shown(label) for label in labels))


def _one_line(text: str) -> str:
    """Make control characters visible, so that no name can move the cursor."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _worker(worker: WorkerView) -> str:
    """Return a worker's name with its model, the commit cut as git cuts it."""
    if not worker.model:
        return worker.name
    revision = f" at {worker.revision[:_REVISION_CHARS]}" if worker.revision else ""
    return f"{worker.name} ({worker.model}{revision})"


def _farm_lines(farm: FarmStatus) -> Iterator[str]:
    yield "farm: " + ("paused; go on with: scribefarm resume" if farm.is_paused else "working")
    names = ", ".join(_worker(worker) for worker in farm.workers)
    yield "workers: " + (names or "none is alive; start one: scribefarm-worker run")
    yield "queued: " + ", ".join(f"{name} {num}" for name, num in farm.queued.items())
    for line in unserved_lines(unserved(farm.queued_by_model, farm.workers)):
        yield _one_line(line)
    yield "running: " + ", ".join(f"{name} {num}" for name, num in farm.running.items())
    for batch, counts in farm.batches.items():
        yield (
            f"batch {batch}: {counts.done} of {counts.total} done, {_failed(counts)} failed"
            f", {_hours(counts.audio_s)} of audio"
        )
