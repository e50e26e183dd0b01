"""The output of `watch` and `status`: live on a terminal, plain lines elsewhere, JSON."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.batches.running import Running
from producer.batches.views import BatchCounts
from producer.batches.watching import BatchStatus, batch_status
from producer.cli.session import Session
from producer.console import emit, format_duration, one_line
from producer.fleet import FarmStatus, WorkerView, farm_status
from producer.models_served import shown, unserved, unserved_lines

_LIVE_EVERY_S = 1.0
_LINES_EVERY_S = 10.0
_MAX_RUNNING = 12
_BAR_WIDTH = 24
# The position of a file, and the gaps beside the columns.
_POSITION_WIDTH, _GAPS_WIDTH = 6, 4
_NAME_WIDTH = (16, 48)


def show_batch(
    session: Session, batch: str, *, every_s: float | None, as_json: bool
) -> BatchStatus:
    """Show a batch until it is done and return the last look."""
    console = Console()
    if as_json or not console.is_terminal:
        return _show_lines(session, batch, every_s or _LINES_EVERY_S, as_json=as_json)
    return _show_live(session, batch, console, every_s or _LIVE_EVERY_S)


def show_farm(session: Session, *, as_json: bool) -> None:
    """Print workers, queues, the files in hand and the latest batches."""
    farm = farm_status(session.connection, session.settings)
    emit(farm.model_dump_json() if as_json else "\n".join(map(one_line, farm_lines(farm))))


def status_lines(look: BatchStatus) -> Iterator[str]:
    """Yield a batch's state for people."""
    counts = look.counts
    yield f"batch {look.batch}: {counts.done} of {counts.total} files done"
    if look.run.known:
        yield f"  done before the last submission {look.run.known}, since then {look.run.done}"
    yield f"  succeeded {counts.succeeded}, {format_duration(counts.audio_s)} of audio"
    if counts.num_empty:
        yield f"  of these without text {counts.num_empty}"
    yield f"  {_failed(counts)}"
    yield f"  running {counts.running}, queued {counts.queued}, waiting {counts.waiting}"
    if counts.lost:
        yield f"  expired or deleted {counts.lost}"
    yield f"  {_speed(look)}"
    yield f"  {_workers(look)}"
    if look.models:
        yield f"  model {_models(look.models)}"
    yield from (f"  {line}" for line in unserved_lines(look.unserved))
    yield from (f"  {line}" for line in _file_lines(look.running))


def farm_lines(farm: FarmStatus) -> Iterator[str]:
    """Yield the farm's state for people."""
    yield "farm: " + ("paused; go on with: scribefarm resume" if farm.is_paused else "working")
    if not farm.workers:
        yield "workers: none is alive; start one: scribefarm-worker run"
    yield from (_worker_line(worker) for worker in farm.workers)
    yield "queued: " + ", ".join(f"{name} {num}" for name, num in farm.queued.items())
    yield from unserved_lines(unserved(farm.queued_by_model, farm.workers))
    yield "running: " + ", ".join(f"{name} {num}" for name, num in farm.running.items())
    yield from (f"  {line}" for line in _file_lines(farm.running_files))
    for batch, counts in farm.batches.items():
        yield (
            f"batch {batch}: {counts.done} of {counts.total} done, {_failed(counts)}"
            f", {format_duration(counts.audio_s)} of audio"
        )


def plain_line(look: BatchStatus) -> str:
    """Return one look as one line of a log."""
    counts = look.counts
    known = f" ({look.run.known} before)" if look.run.known else ""
    return (
        f"{time.strftime('%H:%M:%S')} {counts.done}/{counts.total} done{known}"
        f", {_failed(counts)}, {counts.running} running, {counts.queued} queued"
        f", {format_duration(counts.audio_s)} of audio, {_speed(look)}, {_workers(look)}"
        + "".join(f"; {line}" for line in unserved_lines(look.unserved))
    )


def live_view(look: BatchStatus, width: int) -> RenderableType:
    """Return one look for a terminal of so many columns; no line of it wraps from 60 on."""
    counts = look.counts
    done = f"{counts.done} of {counts.total}"
    head = Table.grid(padding=(0, 2))
    name = keep_end(one_line(look.batch), width - _BAR_WIDTH - len(done) - _GAPS_WIDTH)
    bar = ProgressBar(total=max(1, counts.total), completed=counts.done, width=_BAR_WIDTH)
    # Text, not markup: names may hold square brackets.
    head.add_row(Text(name, style="bold"), bar, done)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(no_wrap=True, overflow="ellipsis")
    facts.add_row("speed", _speed(look))
    if look.run.known:
        facts.add_row("known", f"{look.run.known} done before, {look.run.done} since")
    facts.add_row("succeeded", f"{counts.succeeded}, {format_duration(counts.audio_s)} of audio")
    failed = one_line(_failed(counts, word=""))
    facts.add_row("failed", Text(failed, style="red" if counts.failed else ""))
    facts.add_row("running", str(counts.running))
    facts.add_row("queued", f"{counts.queued}, waiting {counts.waiting}")
    facts.add_row("workers", Text(one_line(_workers(look)), style="" if look.workers else "yellow"))
    if look.models:
        facts.add_row("model", Text(one_line(_models(look.models))))
    for line in unserved_lines(look.unserved):
        facts.add_row("", Text(one_line(line), style="yellow"))
    return Group(head, facts, _file_table(look.running, width))


def keep_end(text: str, width: int) -> str:
    """Return text cut to a width at its beginning: names of one folder differ at the end."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) >= width:
        text = text[1:]
    return "…" + text


def _show_lines(session: Session, batch: str, every_s: float, *, as_json: bool) -> BatchStatus:
    while True:
        look = batch_status(session.connection, session.settings, batch)
        emit(look.model_dump_json() if as_json else one_line(plain_line(look)))
        if look.is_done:
            return look
        _pause(session, batch, every_s)


def _pause(session: Session, batch: str, every_s: float) -> None:
    """Wait for the next look, or for the end of the batch if that comes first."""
    deadline = time.monotonic() + every_s
    while (left_s := deadline - time.monotonic()) > 0:
        time.sleep(min(_LIVE_EVERY_S, left_s))
        is_long = left_s > _LIVE_EVERY_S
        if is_long and batch_status(session.connection, session.settings, batch).is_done:
            return


def _show_live(session: Session, batch: str, console: Console, every_s: float) -> BatchStatus:
    look = batch_status(session.connection, session.settings, batch)
    # We say when to draw: between looks nothing changes, so nothing can flicker.
    with Live(live_view(look, console.width), console=console, auto_refresh=False) as live:
        while not look.is_done:
            time.sleep(every_s)
            look = batch_status(session.connection, session.settings, batch)
            live.update(live_view(look, console.width), refresh=True)
    return look


def _file_table(files: Sequence[Running], width: int) -> Table:
    """Return the files in hand; the columns have one width, whatever stands in them."""
    least, most = _NAME_WIDTH
    name_width = max(least, min(most, (width - _POSITION_WIDTH - _GAPS_WIDTH) // 2))
    text_width = max(0, width - _POSITION_WIDTH - name_width - _GAPS_WIDTH)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=_POSITION_WIDTH, justify="right")
    table.add_column(width=name_width, no_wrap=True)
    table.add_column(width=text_width, no_wrap=True)
    for file in files[:_MAX_RUNNING]:
        name = Text(keep_end(one_line(file.name), name_width))
        table.add_row(_position(file), name, Text(keep_end(one_line(file.text), text_width)))
    return table


def _file_lines(files: Sequence[Running]) -> Iterator[str]:
    for file in files[:_MAX_RUNNING]:
        yield f"{_position(file)}  {file.name}"
    if len(files) > _MAX_RUNNING:
        yield f"and {len(files) - _MAX_RUNNING} more"


def _position(file: Running) -> str:
    return f"{100 * file.part_done:.0f} %" if file.duration_s else "..."


def _failed(counts: BatchCounts, *, word: str = " failed") -> str:
    codes = ", ".join(f"{code} {num}" for code, num in counts.failed_by_code.items())
    return f"{counts.failed}{word}" + (f" ({codes})" if codes else "")


def _speed(look: BatchStatus) -> str:
    if look.is_done:
        return "done"
    rate = look.audio_hours_per_hour
    parts = [f"{rate:.1f} audio hours an hour" if rate is not None else "speed not known yet"]
    if look.eta_s is not None:
        parts.append(f"{format_duration(look.eta_s)} left")
    return ", ".join(parts)


def _workers(look: BatchStatus) -> str:
    paused = " (the farm is paused: scribefarm resume)" if look.is_paused else ""
    if not look.workers:
        return f"no worker is alive; start one: scribefarm-worker run{paused}"
    busy = Counter(file.worker for file in look.running)
    parts = [_number(len(look.workers), "worker"), f"{len(busy)} on this batch"]
    asleep = [worker for worker in look.workers if worker.sleeps_until_s is not None]
    if asleep:
        who = "" if len(asleep) == len(look.workers) else f"{len(asleep)} "
        first = min(asleep, key=lambda worker: worker.sleeps_until_s or 0.0)
        parts.append(who + _asleep(first))
    return ", ".join(parts) + paused


def _worker_line(worker: WorkerView) -> str:
    """Name, model and revision, heartbeat, load, and until when it sleeps."""
    model = " ".join(filter(None, (worker.model, worker.revision[:8])))
    facts = [
        model,
        f"heartbeat {format_duration(worker.heartbeat_age_s)} ago",
        f"{worker.in_flight} of {worker.capacity} recordings in hand" if worker.capacity else "",
        _asleep(worker) if worker.sleeps_until_s is not None else "",
        f"{worker.lost_threads} reading threads hang" if worker.lost_threads else "",
    ]
    return f"worker {worker.name}: " + ", ".join(filter(None, facts))


def _asleep(worker: WorkerView) -> str:
    begins_s = worker.sleeps_until_s or 0.0
    is_soon = begins_s - time.time() < 86_400  # noqa: PLR2004 within a day the hour says it
    until = time.strftime("%H:%M" if is_soon else "%a %H:%M", time.localtime(begins_s))
    return f"asleep until {until} (active hours)"


def _number(num: int, noun: str) -> str:
    return f"{num} {noun}" + ("" if num == 1 else "s")


def _models(labels: list[str]) -> str:
    return ", ".join(shown(label) for label in labels)
