"""`scribefarm submit`: recordings go into the queue, each once."""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from producer.archive.duration import header_duration_s
from producer.archive.find import Found, FoundFile, Names, readable
from producer.archive.hash_cache import HashCache
from producer.archive.patterns import Patterns
from producer.archive.prepare import SubmitOptions
from producer.archive.submit import plan_archive, submit_archive
from producer.batches.views import batch_exists
from producer.cli.flags import FlagCommand, Given, takes
from producer.cli.inputs import SubmitInputs
from producer.cli.job_flags import (
    OPTION_FLAGS,
    ModelName,
    Revision,
    asked_audio,
    asked_options,
    use_model,
)
from producer.cli.session import Session, session_of
from producer.cli.submit_summary import SubmitSummary
from producer.cli.watch_folder import (
    DEFAULT_SETTLE_S,
    Formats,
    Overwrite,
    Results,
    Settle,
    Watch,
    Watched,
    watch_folder,
    watched,
)
from producer.cli.whisper_flags import NOT_OF_SUBMIT, NOT_OURS, answer, answered
from producer.connection import server_name
from producer.console import emit, format_duration, note, one_line, report
from producer.errors import EmptyInput, Exit, InvalidOptions, QueueFull
from producer.fleet import live_workers
from producer.model_names import knows_english_alone
from producer.models_served import queued_by_model, unserved, unserved_lines
from producer.source import is_remote, name_of_address, shown_source

app = typer.Typer()

_MAX_BATCH_LENGTH = 200


class Priority(StrEnum):
    """Queues by urgency; the lower ones are slowed by the higher, never starved."""

    HIGH = "high"
    DEFAULT = "default"
    LOW = "low"


Paths = Annotated[
    list[str] | None,
    typer.Argument(
        help='Files, folders, "patterns/**/*.wav" in quotes, or - for a list on stdin.',
        show_default=False,
    ),
]
Manifests = Annotated[
    list[Path] | None,
    typer.Option("--manifest", help="JSON Lines or CSV: a path and its own options."),
]
Lists = Annotated[
    list[Path] | None,
    typer.Option("--files-from", help="Like -, but a list in a file.", show_default=False),
]
BatchName = Annotated[
    str | None, typer.Option("--batch", help="Name of the batch; made up if not given.")
]
Include = Annotated[
    list[str] | None,
    typer.Option(help='In folders, only files like "*.wav"; else all audio and video.'),
]
Exclude = Annotated[list[str] | None, typer.Option(help='In folders, no files like "drafts/*".')]
Null = Annotated[
    bool, typer.Option("--null", "-0", help="The list on stdin is NUL-separated (find -print0).")
]
AskedPriority = Annotated[Priority, typer.Option("--priority", "--queue", help="Which queue.")]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Enqueue again what failed for good, too.")
]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait while the queue is full, or give up.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
AsJsonLines = Annotated[
    bool, typer.Option("--json", help="Print a JSON line a file, then a summary.")
]

Upload = Annotated[
    bool,
    typer.Option("--upload", help="Send small files through the server: workers need no share."),
]


@app.command(cls=FlagCommand)
@takes(*OPTION_FLAGS, *answered((*NOT_OURS, *NOT_OF_SUBMIT)))
def submit(
    context: typer.Context,
    paths: Paths = None,
    *,
    manifest: Manifests = None,
    files_from: Lists = None,
    batch: BatchName = None,
    include: Include = None,
    exclude: Exclude = None,
    null: Null = False,
    priority: AskedPriority = Priority.DEFAULT,
    retry_failed: RetryFailed = False,
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJsonLines = False,
    upload: Upload = False,
    watch: Watch = None,
    settle: Settle = DEFAULT_SETTLE_S,
    results: Results = None,
    formats: Formats = "txt",
    overwrite: Overwrite = False,
    model: ModelName = None,
    revision: Revision = None,
    given: Given,
) -> None:
    """Enqueue recordings: what is new, changed, or failed for a passing reason; nothing twice.

    Prints job ids for single files, and the batch's name for folders, patterns, lists and
    manifests. Problems with single files are listed on stderr and do not stop the rest.

    Examples:
      scribefarm submit talk.mp3 interview.wav
      scribefarm submit ~/archive --exclude "drafts/*" --batch archive
      scribefarm submit "talks/**/*.flac" --model turbo --language de --dry-run
      find . -name "*.wav" -print0 | scribefarm submit -0 -
      scribefarm submit --manifest recordings.csv --priority low
      scribefarm submit https://example.org/talk.mp3 s3://bucket/interview.flac
      scribefarm submit --watch incoming --results beside --format txt,srt
    """
    session = session_of(context)
    answer((*NOT_OURS, *NOT_OF_SUBMIT), given)
    use_model(session, model, revision)
    inputs = SubmitInputs(
        paths or [],
        files_from or [],
        manifest or [],
        Patterns(tuple(include or ()), tuple(exclude or ())),
        b"\0" if null else b"\n",
    )
    folder = watched(watch, results, formats, overwrite=overwrite)
    if folder is None:
        inputs.check()
    elif inputs.names() or dry_run:
        raise InvalidOptions("--watch", "takes no other files, and nothing to plan")
    asked = SubmitOptions(
        options=asked_options(session.settings, given),
        audio=asked_audio(session.settings, given),
        queue=_queue_of(session, priority),
        retry_failed=retry_failed,
        batch=_batch_name(session, batch, inputs.names(), folder),
        upload=upload,
    )
    if folder is not None:
        watch_folder(session, folder, asked, inputs.patterns, settle_s=settle, as_json=as_json)
    _hand_in(session, inputs, asked, wait=wait, dry_run=dry_run, as_json=as_json)
    session.finish()


def _hand_in(
    session: Session,
    inputs: SubmitInputs,
    asked: SubmitOptions,
    *,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    # A list of ids is of use for single files; for an archive it is the batch.
    is_archive = inputs.are_many()
    summary = SubmitSummary(session, asked.batch, not (is_archive or as_json or dry_run), as_json)
    with Names() as names, HashCache(server=server_name(session.connection)) as cache:
        found = inputs.find(names)
        if dry_run:
            _plan(session, found, asked, cache, summary)
        else:
            _submit(session, found, asked, cache, summary, wait=wait)
            # A batch without files is none: nothing would know its name.
            if is_archive and not as_json and set(summary.verdicts) & {"new", "known"}:
                emit(asked.batch)
    if not summary.num_files:
        where = ", ".join(readable(shown_source(name)) for name in inputs.names())
        session.problem(EmptyInput("submit", "must find at least one recording", where))


def _submit(
    session: Session,
    found: Iterable[Found],
    asked: SubmitOptions,
    cache: HashCache,
    summary: SubmitSummary,
    *,
    wait: bool,
) -> None:
    waiting = _FullQueue() if wait else None
    entries = submit_archive(
        session.connection, session.settings, found, asked, cache, on_full=waiting
    )
    try:
        for entry in entries:
            summary.add(entry)
    except KeyboardInterrupt:
        note(f"stopped after {summary.num_files} files; the farm goes on with those.")
        note("submit the same again to go on: nothing is enqueued twice.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if summary.as_json:
        emit(json.dumps(summary.fields()))
    if summary.verdicts:
        for line in summary.lines("enqueued"):
            note(line)
    queued = queued_by_model(session.connection, session.settings.worker.queues)
    workers = live_workers(session.connection, session.settings)
    for line in unserved_lines(unserved(queued, workers)):
        note(line)
    model = asked.model or session.settings.model.name
    if summary.verdicts["new"] and knows_english_alone(model) and not asked.options.language:
        note(f"the model {model} knows English alone; for other languages name another: --model")
    if summary.verdicts["new"] or summary.verdicts["known"]:
        note(f"watch it:  scribefarm watch {asked.batch}")


def _plan(
    session: Session,
    found: Iterable[Found],
    asked: SubmitOptions,
    cache: HashCache,
    summary: SubmitSummary,
) -> None:
    audio_s, num_unknown = 0.0, 0
    for entry, recording in plan_archive(session.connection, session.settings, found, asked, cache):
        summary.add(entry)
        if recording is None or entry.verdict != "new":
            continue
        duration_s = None
        if isinstance(recording, FoundFile):
            duration_s = header_duration_s(recording.path)
        audio_s += duration_s or 0.0
        num_unknown += duration_s is None
    if summary.as_json:
        planned = {"dry_run": True, "audio_s": round(audio_s, 3), "unknown_length": num_unknown}
        emit(json.dumps(summary.fields() | planned))
        return
    emit("\n".join(map(one_line, summary.lines("would be enqueued"))))
    emit(f"  {format_duration(audio_s)} of audio to do, by the headers")
    if num_unknown:
        emit(f"    not counting {num_unknown} whose headers do not say")


class _FullQueue:
    """An `on_full` of `submit_archive` that says once that submit waits."""

    def __init__(self) -> None:
        self._is_told = False

    def __call__(self, error: QueueFull) -> None:
        if not self._is_told:
            report(error)
            note("waiting until the farm has room; Ctrl-C stops, --no-wait gives up at once")
            self._is_told = True


def _batch_name(
    session: Session, given: str | None, arguments: list[str], folder: Watched | None = None
) -> str:
    if given is not None:
        if not 1 <= len(given) <= _MAX_BATCH_LENGTH or not given.isprintable():
            limit = f"must be 1 to {_MAX_BATCH_LENGTH} printable characters"
            raise InvalidOptions("--batch", limit, readable(given))
        return given
    # Plain characters only, since it will be typed into shells.
    first = str(folder.path) if folder else arguments[0]
    stem = Path(name_of_address(first) if is_remote(first) else first).absolute().stem
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.")[:40] or "batch"
    if folder:
        # The same at each start, since the watch goes on then.
        return plain
    # The wall clock, for people.
    name = f"{plain}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    tries = (name if not count else f"{name}-{count}" for count in range(1000))
    return next(free for free in tries if not batch_exists(session.connection, free))


def _queue_of(session: Session, priority: Priority) -> str:
    queues = session.settings.worker.queues
    if priority not in queues:
        raise InvalidOptions("--priority", f"must be one of {', '.join(queues)}", priority)
    return priority
