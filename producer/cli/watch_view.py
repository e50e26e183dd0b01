"""The output of `watch`: live on a terminal, plain lines elsewhere, JSON."""

import time
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from producer.batches.running import Running
from producer.batches.watching import BatchStatus, batch_status
from producer.cli.session import Session
from producer.cli.status_lines import (
    MAX_RUNNING,
    failed_words,
    model_words,
    plain_line,
    position,
    speed_words,
    worker_words,
)
from producer.console import emit, format_duration, one_line
from producer.models_served import unserved_lines

_LIVE_EVERY_S = 1.0
_LINES_EVERY_S = 10.0
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
    facts.add_row("speed", speed_words(look))
    if look.run.known:
        facts.add_row("known", f"{look.run.known} done before, {look.run.done} since")
    facts.add_row("succeeded", f"{counts.succeeded}, {format_duration(counts.audio_s)} of audio")
    failed = one_line(failed_words(counts, word=""))
    facts.add_row("failed", Text(failed, style="red" if counts.failed else ""))
    facts.add_row("running", str(counts.running))
    facts.add_row("queued", f"{counts.queued}, waiting {counts.waiting}")
    facts.add_row(
        "workers", Text(one_line(worker_words(look)), style="" if look.workers else "yellow")
    )
    if look.models:
        facts.add_row("model", Text(one_line(model_words(look.models))))
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
    for file in files[:MAX_RUNNING]:
        name = Text(keep_end(one_line(file.name), name_width))
        table.add_row(position(file), name, Text(keep_end(one_line(file.text), text_width)))
    return table
