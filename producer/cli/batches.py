"""`errors`, `retry`, `cancel` and `report`: what an operator does about a batch."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from producer.batches.actions import cancel_batch, cancel_jobs, retry_batch
from producer.batches.forms import FORMS, form_of, render
from producer.batches.last_report import last_report_s, remember_report
from producer.batches.report import MAX_LISTED, make_report
from producer.batches.review import FailureGroup, failure_groups
from producer.batches.scan import survey
from producer.batches.views import batch_exists, batch_size
from producer.batches.worked_time import Bounds
from producer.cli.options import AsJson, Batch, batch_of
from producer.cli.session import Session, session_of
from producer.connection import server_time_s
from producer.console import emit, note, one_line
from producer.errors import ERRORS, Exit, InvalidOptions, ScribefarmError
from producer.hints import hint
from producer.output_files import output_errors
from producer.queue import job_state

app = typer.Typer()

Codes = Annotated[
    list[str] | None,
    typer.Option(
        "--code",
        help="Only this error code; repeat for more. `errors` shows those of a batch. "
        "Of shares, models and machines: source_unreachable, model_unreachable, out_of_memory, "
        "worker_lost, job_timeout, poison. Of files: source_not_found, source_forbidden, "
        "unsupported_format, corrupt_audio, empty_input, out_of_range.",
        show_default=False,
    ),
]


_MOMENTS = ["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]
_LIKE = "2026-11-23, 2026-11-23 20:00 or 2026-11-23T20:00:00"
Since = Annotated[
    str | None,
    typer.Option(
        metavar=f"[last|{'|'.join(_MOMENTS)}]",
        help="Only what ended since then, in local time, or since the last report.",
        show_default=False,
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        formats=_MOMENTS, help="Only what ended before, in local time.", show_default=False
    ),
]
FormName = Annotated[
    str | None,
    typer.Option(
        "--format",
        help=f"One of {', '.join(FORMS)}; else as the output's name says, else markdown. "
        "xlsx needs the extra `report`.",
        show_default=False,
    ),
]


@app.command()
def errors(
    context: typer.Context, batch: Batch = None, *, code: Codes = None, as_json: AsJson = False
) -> None:
    """List the failed files of a batch by error code, with value, limit and advice.

    Exit code 0: none failed. 1: some did.

    Examples:
      scribefarm errors archive
      scribefarm errors archive --code corrupt_audio --json
    """
    session = session_of(context)
    wanted = _known_codes(code)
    name = batch_of(session, batch)
    batch_size(session.connection, name)
    found = survey(session.connection, name).failed
    failed = {each: found[each] for each in found if not wanted or each in wanted}
    groups = failure_groups(session.connection, failed)
    if as_json:
        emit(json.dumps([group.model_dump(mode="json") for group in groups]))
    else:
        _emit_lines(line for group in groups for line in _group_lines(group))
    if groups:
        raise typer.Exit(Exit.SOME_FAILED)


@app.command()
def retry(
    context: typer.Context, batch: Batch = None, *, code: Codes = None, as_json: AsJson = False
) -> None:
    """Enqueue the failed files of a batch again, all or those of some error codes.

    Prints the ids of the jobs.

    Examples:
      scribefarm retry archive
      scribefarm retry archive --code worker_lost --code source_unreachable
    """
    session = session_of(context)
    name = batch_of(session, batch)
    job_ids = retry_batch(session.connection, session.settings, name, _known_codes(code))
    _emit_lines([json.dumps({"batch": name, "job_ids": job_ids})] if as_json else job_ids)
    note(f"{len(job_ids)} jobs enqueued again")


@app.command()
def cancel(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="BATCH|JOB", help="What to cancel.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Cancel a job, or all of a batch that is not done: waiting jobs now, running ones soon.

    Prints the ids of the jobs. `scribefarm retry` undoes it.

    Examples:
      scribefarm cancel archive
      scribefarm cancel 0f8fad5bd9cb469fa16570867728950e
    """
    session = session_of(context)
    connection, settings = session.connection, session.settings
    if batch_exists(connection, target):
        done = cancel_batch(connection, settings, target)
    else:
        job_state(connection, target)
        done = list(cancel_jobs(connection, settings, [target]))
    if as_json:
        emit(json.dumps([item._asdict() for item in done]))
    else:
        _emit_lines(item.job_id for item in done)
    outcomes = Counter(item.outcome for item in done)
    note(f"{outcomes['cancelled']} cancelled, {outcomes['cancelling']} running ones told to stop")


@app.command()
def report(
    context: typer.Context,
    batch: Batch = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", dir_okay=False)
    ] = None,
    form: FormName = None,
    since: Since = None,
    until: Until = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Of all runs, not only of the last one.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="List all files, however many.")] = False,
    as_json: AsJson = False,
) -> None:
    """Report on a batch: totals, speed, failures, recordings to review, and what to do next.

    It speaks of the last run: what was worked since the last submission. Files that were done
    before are counted apart. `--since last` is what ended since the last report; one with --until or
    a date is not remembered for that.

    Exit code 0: all succeeded. 1: some failed, or are not done yet.

    Examples:
      scribefarm report archive -o report.html
      scribefarm report archive --json | jq .counts
      scribefarm report archive --since last --format text
      scribefarm report archive --since "2026-11-23 20:00" --until "2026-11-24 07:00"
    """
    form = form_of("json" if as_json else form, output)
    is_since_last = since == "last"
    since_s = None if is_since_last else _moment_s(since)
    session = session_of(context)
    name = batch_of(session, batch)
    began_s = server_time_s(session.connection)
    if is_since_last:
        since_s = last_report_s(session.connection, name)
        if since_s is None:
            note("no report on it is remembered: this is of all there was")
    bounds = Bounds(since_s, _seconds(until)) if whole or since or until else None
    made = make_report(session.connection, name, bounds, limit=None if full else MAX_LISTED)
    _write_report(render(made, form, full=full), output)
    if until is None and (since is None or is_since_last):
        _remember(session, name, began_s)
    if made.counts.succeeded < made.counts.total:
        raise typer.Exit(Exit.SOME_FAILED)


def _remember(session: Session, batch: str, began_s: float) -> None:
    """Keep when the report began; a server that is full takes nothing from the report itself."""
    try:
        remember_report(session.connection, session.settings, batch, began_s)
    except ScribefarmError as error:
        note(f"the next `--since last` does not know of this report: {one_line(str(error))}")


def _write_report(document: str | bytes, output: Path | None) -> None:
    if output is None:
        emit(document if isinstance(document, str) else document.decode())
        return
    content = document if isinstance(document, bytes) else f"{document}\n".encode()
    with output_errors("report", output):
        output.write_bytes(content)
    note(f"wrote {one_line(str(output))}")


def _emit_lines(lines: Iterable[str]) -> None:
    for line in lines:
        emit(one_line(line))


def _moment_s(given: str | None) -> float | None:
    """Return a moment of local time in seconds since the epoch."""
    if given is None:
        return None
    for form in _MOMENTS:
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return _seconds(datetime.strptime(given, form))  # noqa: DTZ007 local time is meant
    raise InvalidOptions("--since", f"must be `last` or like {_LIKE}", given)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.astimezone().timestamp()


def _known_codes(codes: list[str] | None) -> list[str]:
    for code in codes or ():
        if code not in ERRORS:
            more = hint(code, ERRORS) or ", as `scribefarm errors` shows them"
            raise InvalidOptions("--code", f"must be an error code{more}", code)
    return codes or []


def _group_lines(group: FailureGroup) -> list[str]:
    head = [f"{group.code or 'unknown'}: {group.count}", f"  {group.advice}"]
    return [*head, *(f"  {file.name}: {file.reason}" for file in group.files), ""]
