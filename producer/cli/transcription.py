"""`scribefarm transcribe`: recordings become text in one command, with a worker if none is alive."""

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from producer import embedded
from producer.batches.actions import cancel_jobs
from producer.cli.flags import FlagCommand, Given, optional, takes
from producer.cli.interrupts import Interrupts
from producer.cli.job_flags import (
    OPTION_FLAGS,
    ModelName,
    Revision,
    asked_audio,
    asked_options,
    use_model,
)
from producer.cli.language_note import note_language
from producer.cli.local_worker import FarmWorkers, LocalWorker
from producer.cli.options import format_names
from producer.cli.progress import JobsProgress, waiting_for
from producer.cli.recordings import Inputs, Recording, find_recordings, jobs_of, stored_stdin
from producer.cli.session import Session, session_of
from producer.cli.subtitle_flags import SUBTITLE_FLAGS, asked_subtitles
from producer.cli.transcript_output import TranscriptOutput
from producer.cli.whisper_flags import NOT_OURS, answer, answered
from producer.console import note
from producer.errors import Exit, InvalidOptions, ScribefarmError
from producer.fleet import live_workers
from producer.formats import FORMATS
from producer.job import Job
from producer.models_served import is_served
from producer.pending import PendingJobs
from producer.queue import job_id_of, submit
from producer.result import Failure, Transcript
from producer.waiting import wait_for_results

app = typer.Typer()

# Seconds between two updates of the progress bar.
TICK_S = 0.5


RUN_FLAGS = (
    optional(
        "fp16",
        bool,
        typer.Option(
            "--fp16/--no-fp16",
            help="Compute in float16, or in float32, if a worker is started; else model.dtype.",
            show_default=False,
            rich_help_panel="This run",
        ),
    ),
    optional(
        "verbose",
        bool,
        typer.Option(
            "--verbose/--no-verbose",
            help="Show progress on a terminal.",
            show_default="on",
            rich_help_panel="This run",
        ),
    ),
)
Formats = Annotated[
    str | None,
    typer.Option(
        "--format",
        "--output-format",
        "-f",
        metavar="FORMAT",
        help=f"One of: {', '.join(FORMATS)}; several with commas, or all, for --output-dir.",
        show_default="timed, or txt for --output-dir",
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        "-o",
        help="Write files here instead of printing.",
        file_okay=False,
        show_default=False,
    ),
]


@app.command(cls=FlagCommand)
@takes(*RUN_FLAGS, *OPTION_FLAGS, *answered(NOT_OURS), *SUBTITLE_FLAGS)
def transcribe(
    context: typer.Context,
    files: Inputs,
    *,
    model: ModelName = None,
    revision: Revision = None,
    formats: Formats = None,
    output_dir: OutputDir = None,
    given: Given,
) -> None:
    """Transcribe recordings here and now, and print the text with its times.

    Uses the farm's server and workers if they run; otherwise starts a server and a worker on this
    machine and stops them at the end. What was transcribed before is not done again.

    Examples:
      scribefarm transcribe talk.mp3
      scribefarm transcribe talk.mp3 --model turbo --language de
      scribefarm transcribe interviews/ --format srt,txt --output-dir subtitles
      ffmpeg -i film.mkv -f wav - | scribefarm transcribe -
    """
    session = session_of(context)
    answer(NOT_OURS, given)
    use_model(session, model, revision)
    if "fp16" in given:
        session.use(model={"dtype": "float16" if given["fp16"] else "float32"})
    names, subtitles = _format_names(formats, output_dir), asked_subtitles(given)
    options = asked_options(session.settings, given)
    audio = asked_audio(session.settings, given)
    with Interrupts() as interrupts, stored_stdin(session, files) as stdin:
        recordings = find_recordings(session, files, stdin)
        jobs = list(jobs_of(session, recordings, options, audio))
        if jobs:
            output = TranscriptOutput(names, subtitles, output_dir, recordings)
            with _server(session):
                _transcribe(session, jobs, output, interrupts, given)
    session.finish()


def _format_names(formats: str | None, folder: Path | None) -> tuple[str, ...]:
    names = format_names(formats or ("timed" if folder is None else "txt"))
    if folder is None and len(names) > 1:
        raise InvalidOptions("--format", "several formats need --output-dir", formats)
    return names


def _transcribe(
    session: Session,
    asked: list[tuple[Recording, Job]],
    output: TranscriptOutput,
    interrupts: Interrupts,
    given: Given,
) -> None:
    num_jobs, num_done = len(asked), 0
    printer = _Printer(session, output)
    # Known before they are enqueued: from then on an interrupt must cancel them.
    stdin_ids = {job_id_of(job, session.settings) for each, job in asked if each.is_stdin}
    try:
        ids = _enqueue(session, [job for _, job in asked])
        printer.expect((recording for recording, _ in asked), ids)
        num_jobs = len(set(ids))
        titles = (recording.title for recording, _ in asked)
        shown = list(zip(ids, titles, strict=True))
        is_shown = given.get("verbose") is not False
        with JobsProgress(session.connection, shown, is_shown=is_shown) as progress:
            for outcome in _results(session, set(ids), progress, interrupts, given):
                num_done += 1
                progress.finish_job(outcome.job_id)
                with progress.paused():
                    printer.add(outcome)
    except KeyboardInterrupt:
        note(
            f"interrupted with {num_done} of {num_jobs} done; the rest stays in the queue. "
            "The same command goes on where this one stopped."
        )
        if lost := printer.not_done(stdin_ids):
            note("not so what came on standard input: it is cancelled, since its file goes now.")
            list(cancel_jobs(session.connection, session.settings, lost))
        raise typer.Exit(Exit.INTERRUPTED) from None


def _enqueue(session: Session, jobs: list[Job]) -> list[str]:
    """Submit the jobs and return their ids."""
    # The most urgent queue: somebody is waiting at a terminal.
    queue = session.settings.worker.queues[0]
    submitted = submit(
        session.connection, session.settings, jobs, queue=queue, resubmit_failed=True
    )
    return [entry.job_id for entry in submitted]


def _results(
    session: Session,
    ids: set[str],
    progress: JobsProgress,
    interrupts: Interrupts,
    given: Given,
) -> Iterator[Transcript | Failure]:
    connection = session.connection
    known = list(wait_for_results(connection, ids, 0))
    yield from known
    missing = ids - {outcome.job_id for outcome in known}
    # A worker of another model would leave these jobs where they are.
    is_own = bool(missing) and not is_served(
        connection, missing, live_workers(connection, session.settings)
    )
    if "fp16" in given and not is_own:
        note("no worker is started here, so --fp16 has no effect")
    if not missing:
        return
    settings = session.settings
    with LocalWorker(settings) if is_own else FarmWorkers(connection, settings) as worker:

        def on_tick(pending: PendingJobs) -> None:
            interrupts.check()
            worker.check(pending)
            progress.update(worker.waits_for())

        yield from wait_for_results(connection, missing, tick_s=TICK_S, on_tick=on_tick)


class _Printer:
    """Puts out results in the order of the command line, in whatever order they come."""

    def __init__(self, session: Session, output: TranscriptOutput) -> None:
        self._session = session
        self._output = output
        self._waiting: deque[tuple[Recording, str]] = deque()
        self._outcomes: dict[str, Transcript | Failure] = {}

    def expect(self, recordings: Iterable[Recording], job_ids: Iterable[str]) -> None:
        """Take note of what will come, in order."""
        self._waiting.extend(zip(recordings, job_ids, strict=True))

    def add(self, outcome: Transcript | Failure) -> None:
        """Take a result, and put out all that nothing earlier holds up."""
        self._outcomes[outcome.job_id] = outcome
        while self._waiting and self._waiting[0][1] in self._outcomes:
            recording, job_id = self._waiting.popleft()
            self._put_out(recording, self._outcomes[job_id])

    def not_done(self, job_ids: set[str]) -> set[str]:
        """Return those of some jobs whose results have not come."""
        return job_ids - self._outcomes.keys()

    def _put_out(self, recording: Recording, outcome: Transcript | Failure) -> None:
        if isinstance(outcome, Failure):
            self._report(recording, ScribefarmError.from_dict(outcome.error.model_dump()))
            return
        try:
            self._output.put(recording, outcome)
            note_language(outcome, recording.title)
        except ScribefarmError as error:
            self._session.problem(error)

    def _report(self, recording: Recording, error: ScribefarmError) -> None:
        # Most errors of a recording begin with its path.
        is_path = error.context in {str(recording.path), recording.title}
        inner = "" if is_path else f": {error.context}"
        context = f"{recording.title}{inner}"
        self._session.problem(type(error)(context, error.constraint, error.value))
        if recording.is_stdin and error.code.startswith("source_"):
            note(
                "standard input lies in a file of this machine while this command runs; the "
                "worker that took it may not read it. Stop that worker, or name a file."
            )


@contextlib.contextmanager
def _server(session: Session) -> Iterator[None]:
    """Stop the embedded server at the end if it was not there before and nobody else uses it."""
    settings = session.settings
    was_there = settings.redis.url is not None or embedded.status(settings).running
    with waiting_for(None if was_there else "starting a server"):
        session.connection.ping()
    try:
        yield
    finally:
        session.connection.close()
        if not was_there and embedded.num_clients(settings) == 0:
            embedded.stop(settings)
