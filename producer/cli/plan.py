"""`scribefarm plan`: how many nights, how many Macs, and when each batch will be done."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer

from producer.active_hours import parse_hours, zone_of
from producer.archive.duration import header_duration_s
from producer.archive.find import FoundAddress, FoundFile, Names, Problem, readable
from producer.archive.patterns import Patterns
from producer.cli.inputs import SubmitInputs
from producer.cli.options import AsJson
from producer.cli.session import Session, session_of
from producer.console import emit, note, one_line
from producer.errors import EmptyInput, InvalidOptions, ServerUnreachable
from producer.planning.lines import plan_lines
from producer.planning.plan import MOST_MACHINES, fewest_machines, make_plan
from producer.planning.speeds import COMPUTED, Known, Origin, asked_farm, speed_of_chip
from producer.planning.work import DEFAULT_LENGTH_S, Load, waiting
from producer.roster import read_roster
from producer.worker_records import WorkerRecord

app = typer.Typer()

_TOLD_EVERY = 10_000
_MAX_HOURS, _MAX_SPEED, _MAX_MINUTES, _MAX_NIGHTS = 10_000_000, 1_000_000, 2160, 3650


@app.command()
def plan(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARCHIVE]...",
            help='What would be added: files, folders, "patterns/**", or - for a list on stdin.',
            show_default=False,
        ),
    ] = None,
    *,
    hours: Annotated[
        float | None,
        typer.Option(min=0.01, max=_MAX_HOURS, help="Hours of audio that would be added."),
    ] = None,
    mean_minutes: Annotated[
        float,
        typer.Option(min=0.01, max=_MAX_MINUTES, help="Of a recording whose length nobody knows."),
    ] = DEFAULT_LENGTH_S / 60,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_MACHINES, help="Machines; else those that are alive."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0.01, max=_MAX_SPEED, help="Of each, in times real time."),
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option(
            help=f"Instead of --speed, by arithmetic for five beams: {', '.join(COMPUTED)}."
        ),
    ] = None,
    night: Annotated[
        str | None,
        typer.Option(help='When they work, such as 22:00-06:00; "always"; else as they say.'),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of --night; else this machine's.", show_default=False)
    ] = None,
    nights: Annotated[
        int | None,
        typer.Option(min=1, max=_MAX_NIGHTS, help="Say how many machines are done within so many."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="For --chip: large-v3-turbo or large-v3.")
    ] = "large-v3-turbo",
    as_json: AsJson = False,
) -> None:
    """Say how many nights the work takes, with how many machines, and when each batch is done.

    The work is what waits in the farm, and what is named here. Lengths come from headers, speeds from
    the workers' heartbeats, else from `scribefarm-worker bench`, else from arithmetic; the plan says
    which. Nights are played many times with other lengths, failures and speeds: that is the range.

    What is done already counts as well: `submit --dry-run` tells it apart.

    Examples:
      scribefarm plan
      scribefarm plan ~/archive
      scribefarm plan --hours 5000 --workers 4 --chip M4 --model turbo --night 22:00-06:00
      scribefarm plan --hours 5000 --workers 4 --speed 36 --night 22:00-06:00 --nights 14 --json
    """
    session = session_of(context)
    asked = _asked_hours(night, timezone)
    given = _given_speed(speed, chip, model)
    mean_s = 60 * mean_minutes
    farm = _farm(session, workers, given, asked)
    loads = [*_waiting(session), *_added(session, paths or [], hours, mean_s)]
    if not loads:
        raise InvalidOptions("plan", "needs work: nothing waits; name files, folders or --hours")
    begins = datetime.now(UTC)
    made = make_plan(loads, farm, begins, sizes=_other_sizes(len(farm)))
    if nights:
        fewest = fewest_machines(loads, farm[0], begins, nights)
        made = made.model_copy(update={"nights_asked": nights, "fewest_machines": fewest})
    if as_json:
        emit(made.model_dump_json())
    else:
        emit("\n".join(map(one_line, plan_lines(made))))
    session.finish()


def _asked_hours(night: str | None, timezone: str | None) -> tuple[str | None, str | None] | None:
    """Return the hours that stand for the workers' own; None if none were named."""
    if night is None:
        if timezone is not None:
            raise InvalidOptions("--timezone", "needs --night", timezone)
        return None
    if night == "always":
        return None, None
    parse_hours(night)
    zone_of(timezone)
    return night, timezone


def _given_speed(speed: float | None, chip: str | None, model: str) -> tuple[float, Origin] | None:
    if speed is not None and chip is not None:
        raise InvalidOptions("--chip", "must not stand beside --speed", chip)
    if chip is not None:
        return speed_of_chip(chip, model), "computed"
    return None if speed is None else (speed, "given")


def _farm(
    session: Session,
    num_workers: int | None,
    given: tuple[float, Origin] | None,
    hours: tuple[str | None, str | None] | None,
) -> list[Known]:
    """Return the machines; the server is asked only for what was not said."""
    if num_workers is None or given is None or hours is None:
        alive = _alive(session, needed=num_workers is None or given is None)
    else:
        alive = []
    return asked_farm(alive, num_workers, given, hours)


def _alive(session: Session, *, needed: bool) -> list[WorkerRecord]:
    try:
        return read_roster(session.connection, session.settings).alive
    except ServerUnreachable:
        if needed:
            raise
        return []


def _waiting(session: Session) -> list[Load]:
    try:
        return waiting(session.connection)
    except ServerUnreachable as error:
        note(f"what waits in the farm does not count: {error}")
        return []


def _added(
    session: Session, paths: list[str], hours: float | None, mean_s: float
) -> Iterator[Load]:
    """Yield what would be added: recordings that are there, and hours that are not yet."""
    if paths:
        lengths, num_unknown = _lengths(session, paths)
        if not lengths and not num_unknown:
            where = ", ".join(map(readable, paths))
            raise EmptyInput("plan", "must find at least one recording", where)
        known_s = sum(lengths) / len(lengths) if lengths else mean_s
        yield Load("", len(lengths) + num_unknown, lengths, known_s)
    if hours is not None:
        yield Load("", max(1, round(3600 * hours / mean_s)), (), mean_s)


def _lengths(session: Session, paths: list[str]) -> tuple[list[float], int]:
    """Return the seconds that headers say, and how many recordings do not say."""
    lengths: list[float] = []
    num_unknown = 0
    inputs = SubmitInputs(paths, [], [], Patterns((), ()), b"\n")
    with Names() as names:
        for found in inputs.find(names):
            if isinstance(found, Problem):
                session.problem(found.error, readable(str(found.path)))
                continue
            if not isinstance(found, FoundFile | FoundAddress):
                continue
            duration_s = header_duration_s(found.path) if isinstance(found, FoundFile) else None
            if duration_s is None:
                num_unknown += 1
            else:
                lengths.append(duration_s)
            if (len(lengths) + num_unknown) % _TOLD_EVERY == 0:
                note(f"{len(lengths) + num_unknown} headers read")
    return lengths, num_unknown


def _other_sizes(size: int) -> list[int]:
    """Return the numbers of machines that are planned as well: fewer, and up to four times as many."""
    return sorted({max(1, size // 2), size + 1, 2 * size, 4 * size} - {size})
