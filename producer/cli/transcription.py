"""`scribefarm transcribe`: recordings become text in one command, with a worker if none is alive."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from producer import embedded
from producer.cli.local_worker import LocalWorker
from producer.cli.options import format_names
from producer.cli.progress import JobsProgress, waiting_for
from producer.cli.recordings import Files, Language, Prompt, Task, Words, asked_options, jobs_of
from producer.cli.session import Session, session_of
from producer.console import emit, note, one_line
from producer.errors import Exit, InvalidOptions, ScribefarmError
from producer.fleet import live_workers
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS
from producer.job import Job
from producer.models_served import is_served
from producer.output_files import output_errors, output_path, write_whole
from producer.pending import PendingJobs
from producer.queue import submit
from producer.result import Failure, Transcript
from producer.waiting import wait_for_results
from producer.worker_watch import WorkerWatch

app = typer.Typer()

# Seconds between two updates of the progress bar.
TICK_S = 0.5


class Output:
    """Where transcripts go: to stdout, or to a folder in one file a format."""

    def __init__(self, formats: tuple[str, ...], folder: Path | None) -> None:
        self._formats = formats
        self._folder = folder
        self._taken: set[str] = set()

    def write(self, path: Path, transcript: Transcript, *, with_title: bool) -> None:
        """Print the transcript of the recording at `path`, or write its files."""
        if self._folder is None:
            title = f"==> {one_line(str(path))} <==\n" if with_title else ""
            for name in self._formats:
                emit(title + FORMATS[name](transcript, DEFAULT_FORMAT_OPTIONS))
            return
        stem = self._claim_stem(path)
        for name in self._formats:
            target = output_path(self._folder, stem, name)
            text = FORMATS[name](transcript, DEFAULT_FORMAT_OPTIONS)
            with output_errors("transcribe", target):
                write_whole(target, text, within=self._folder, overwrite=True)
            note(f"wrote {target}")

    def _claim_stem(self, path: Path) -> str:
        """Return a file name that no other recording of this command has."""
        names = chain((path.stem, path.name), (f"{path.name}-{n}" for n in count(2)))
        stem = next(name for name in names if name not in self._taken)
        self._taken.add(stem)
        return stem


@app.command()
def transcribe(
    context: typer.Context,
    files: Files,
    *,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"One of: {', '.join(FORMATS)}; several with commas for --output-dir.",
            show_default="timed, or txt for --output-dir",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", help="Write files here instead of printing.", file_okay=False
        ),
    ] = None,
    language: Language = None,
    task: Task = None,
    prompt: Prompt = None,
    words: Words = False,
) -> None:
    """Transcribe recordings here and now, and print the text with its times.

    Uses the farm's server and workers if they run; otherwise starts a server and a worker on this
    machine and stops them at the end. What was transcribed before is not done again.

    Examples:
      scribefarm transcribe talk.mp3
      scribefarm transcribe *.wav --format srt,txt --output-dir subtitles/
    """
    session = session_of(context)
    output = _output(formats, output_dir)
    options = asked_options(
        session.settings, language=language, task=task, prompt=prompt, words=words
    )
    jobs = list(jobs_of(session, files, options))
    if jobs:
        with _sigterm_as_interrupt(), _server(session):
            _transcribe(session, jobs, output)
    session.finish()


def _output(formats: str | None, folder: Path | None) -> Output:
    names = format_names(formats or ("timed" if folder is None else "txt"))
    if folder is None and len(names) > 1:
        raise InvalidOptions("--format", "several formats need --output-dir", formats)
    return Output(names, folder)


def _transcribe(session: Session, jobs: list[Job], output: Output) -> None:
    num_jobs, num_done = len(jobs), 0
    try:
        ids = _enqueue(session, jobs)
        printer = _Printer(session, output, list(zip((job.path for job in jobs), ids, strict=True)))
        num_jobs = len(set(ids))
        shown = [(job_id, str(job.path)) for job, job_id in zip(jobs, ids, strict=True)]
        with JobsProgress(session.connection, shown) as progress:
            for outcome in _results(session, set(ids), progress):
                num_done += 1
                progress.finish_job(outcome.job_id)
                with progress.paused():
                    printer.add(outcome)
    except KeyboardInterrupt:
        note(
            f"interrupted with {num_done} of {num_jobs} done; the rest stays in the queue. "
            "The same command goes on where this one stopped."
        )
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
    session: Session, ids: set[str], progress: JobsProgress
) -> Iterator[Transcript | Failure]:
    connection = session.connection
    known = list(wait_for_results(connection, ids, 0))
    yield from known
    missing = ids - {outcome.job_id for outcome in known}
    if not missing:
        return
    with contextlib.ExitStack() as stack:
        # A worker of another model would leave these jobs where they are.
        if is_served(connection, missing, live_workers(connection, session.settings)):
            watch: Callable[[PendingJobs], None] = WorkerWatch(connection, session.settings)
            waits_for: Callable[[], str | None] = lambda: None  # noqa: E731
        else:
            worker = stack.enter_context(LocalWorker(session.settings))
            watch, waits_for = worker.check, worker.waits_for

        def on_tick(pending: PendingJobs) -> None:
            watch(pending)
            progress.update(waits_for())

        yield from wait_for_results(connection, missing, tick_s=TICK_S, on_tick=on_tick)


class _Printer:
    """Puts out results in the order of the command line, in whatever order they come."""

    def __init__(self, session: Session, output: Output, files: list[tuple[Path, str]]) -> None:
        self._session = session
        self._output = output
        self._waiting = files
        self._with_titles = len(files) > 1
        self._outcomes: dict[str, Transcript | Failure] = {}

    def add(self, outcome: Transcript | Failure) -> None:
        """Take a result, and put out all that nothing earlier holds up."""
        self._outcomes[outcome.job_id] = outcome
        while self._waiting and self._waiting[0][1] in self._outcomes:
            path, job_id = self._waiting.pop(0)
            self._put_out(path, self._outcomes[job_id])

    def _put_out(self, path: Path, outcome: Transcript | Failure) -> None:
        if isinstance(outcome, Failure):
            error = ScribefarmError.from_dict(outcome.error.model_dump())
            self._session.problem(error, str(path))
            return
        try:
            self._output.write(path, outcome, with_title=self._with_titles)
        except ScribefarmError as error:
            self._session.problem(error)


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


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does, with everything stopped that it started."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
