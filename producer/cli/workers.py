"""`workers`: a row for each worker: what it is, does and has, and what is wrong with it."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from producer.cli.options import AsJson
from producer.cli.session import session_of
from producer.cli.worker_words import doing_words, mark_words
from producer.console import emit, format_bytes, format_duration, note, one_line
from producer.errors import Exit
from producer.roster import Roster, read_roster
from producer.worker_records import WorkerRecord

app = typer.Typer()

_COLUMNS = ("WORKER", "DOES", "SPEED", "IN HAND", "ROWS", "MEMORY", "HEARTBEAT", "MODEL")
# Of a name in a cell: a table is as wide as its longest one.
_MAX_CELL = 48


@app.command()
def workers(
    context: typer.Context,
    *,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Also what each has in hand and its last error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a row for each worker: what it does, its speed and load, and what is wrong with it.

    Speed is audio seconds a second of the last five minutes with work. Lost workers are shown for
    a day, or until one of the same name is back.

    Exit codes: 0 all are well, 1 some are lost, late, slow or damaged, or reading hangs.

    Examples:
      scribefarm workers
      scribefarm workers --long
      scribefarm workers --json | jq -r '.workers[] | select(.marks != []) | .name'
    """
    session = session_of(context)
    roster = read_roster(session.connection, session.settings)
    if as_json:
        emit(_document(roster))
    elif roster.workers:
        emit("\n".join(map(one_line, _lines(roster, is_long=long))))
    else:
        note("no worker is known; start one: scribefarm-worker run")
    if any(worker.marks for worker in roster.workers):
        raise typer.Exit(Exit.SOME_FAILED)


def _document(roster: Roster) -> str:
    listed = ", ".join(worker.model_dump_json() for worker in roster.workers)
    return f'{{"now_s": {roster.now_s}, "workers": [{listed}]}}'


def _lines(roster: Roster, *, is_long: bool) -> Iterator[str]:
    rows = [_COLUMNS, *(_cells(worker) for worker in roster.workers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield _row(_COLUMNS, widths)
    for worker, cells in zip(roster.workers, rows[1:], strict=True):
        yield _row(cells, widths)
        yield from (f"  ! {words}" for words in mark_words(worker))
        if is_long:
            yield from _long_lines(worker)
    sick = sum(bool(worker.marks) for worker in roster.workers)
    alive = len(roster.alive)
    yield f"{alive} alive" + (f", {sick} to look at" if sick else ", all well")


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(worker: WorkerRecord) -> tuple[str, ...]:
    speed = "" if worker.audio_s_per_s is None else f"{worker.audio_s_per_s:.1f}x"
    rows = "" if worker.rows is None else f"{worker.rows:.1f}/{worker.slots}"
    model = " ".join(filter(None, (worker.model, worker.revision[:8])))
    cells = (
        worker.name,
        doing_words(worker),
        speed,
        f"{worker.in_flight}/{worker.capacity}" if worker.capacity else f"{worker.in_flight}",
        rows,
        format_bytes(worker.memory_bytes or worker.resident_bytes) if worker.version else "",
        f"{format_duration(worker.heartbeat_age_s)} ago",
        model,
    )
    return tuple(one_line(cell)[:_MAX_CELL] for cell in cells)


def _long_lines(worker: WorkerRecord) -> Iterator[str]:
    if worker.version:
        done = f"{worker.num_succeeded} done, {worker.num_failed} failed since its start"
        yield f"    scribefarm {worker.version}, family {worker.family}, {worker.dtype}: {done}"
    for name in worker.recordings:
        yield f"    in hand: {name}"
    if worker.in_flight > len(worker.recordings) > 0:
        yield f"    and {worker.in_flight - len(worker.recordings)} more"
    if error := worker.last_error:
        yield f"    last error: [{error.code}] {error.message}"
