"""`scribefarm result`: one job's transcript."""

from typing import Annotated

import typer

from producer.cli.options import known_format
from producer.cli.session import Session, session_of
from producer.console import emit, note, report
from producer.errors import Exit, ScribefarmError
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS
from producer.queue import job_state, read_result
from producer.result import Failure, Transcript, dump_result
from producer.states import ENDED_BADLY
from producer.waiting import wait_for_results
from producer.worker_watch import WorkerWatch

app = typer.Typer()

FormatName = Annotated[
    str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.", metavar="FORMAT")
]


@app.command()
def result(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Job id, as printed by submit.", show_default=False)],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the job is done.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds to wait at most.", show_default=False)
    ] = None,
    format_name: FormatName = "txt",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the stored result, done or failed, as JSON.")
    ] = False,
) -> None:
    """Print a job's transcript.

    Exit code 0: done. 1: failed, or not done yet. 3: no worker is alive.

    Examples:
      scribefarm result 0f8fad5bd9cb469fa16570867728950e
      scribefarm result 0f8fad5bd9cb469fa16570867728950e --wait --format srt > talk.srt
    """
    write = FORMATS[known_format(format_name)]
    session = session_of(context)
    outcome = _outcome(session, job, wait=wait, timeout_s=timeout)
    if as_json:
        emit(dump_result(outcome))
    elif isinstance(outcome, Transcript):
        emit(write(outcome, DEFAULT_FORMAT_OPTIONS))
    if isinstance(outcome, Failure):
        if not as_json:
            error = ScribefarmError.from_dict(outcome.error.model_dump())
            # Most errors of a recording begin with its path.
            report(error, "" if error.context == outcome.source else outcome.source)
        raise typer.Exit(Exit.SOME_FAILED)


def _outcome(
    session: Session, job_id: str, *, wait: bool, timeout_s: float | None
) -> Transcript | Failure:
    state = job_state(session.connection, job_id)
    found = read_result(session.connection, job_id)
    if found is None and (wait or state in ENDED_BADLY):
        limit_s = timeout_s if wait else 0.0
        watch = WorkerWatch(session.connection, session.settings) if wait else None
        waiting = wait_for_results(session.connection, [job_id], limit_s, on_tick=watch)
        found = next(waiting, None)
    if found is None:
        note(f"job {job_id} is {state}, not done" + ("" if wait else "; --wait waits for it"))
        raise typer.Exit(Exit.SOME_FAILED)
    return found
