"""`scribefarm submit`: an archive goes into the queue, once."""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from glob import has_magic
from pathlib import Path
from typing import Annotated

import typer

from producer.archive.duration import header_duration_s
from producer.archive.find import Found, Names, Patterns, find, read_list, readable
from producer.archive.hash_cache import HashCache
from producer.archive.manifest import read_manifest
from producer.archive.submit import Entry, Request, plan_archive, submit_archive
from producer.batches.report import audio_length
from producer.batches.views import batch_exists
from producer.cli.console import Exit, Session, emit, note, report, session_of
from producer.cli.recordings import Language, Prompt, Task, Words, asked_options
from producer.errors import InvalidOptions, QueueFull

app = typer.Typer()

_REASONS = {
    "first_time": "for the first time",
    "audio_changed": "since their audio changed",
    "request_changed": "since model or options changed",
    "again": "once more",
}
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


@dataclass
class _Tally:
    """Counts what became of the files, and prints it as asked."""

    session: Session
    batch: str
    with_ids: bool
    as_json: bool
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        """Count a file; problems go to stderr as they come."""
        self.verdicts[entry.verdict] += 1
        if entry.reason:
            self.reasons[entry.reason] += 1
        if self.as_json:
            emit(json.dumps(_entry_fields(entry)))
        if entry.error:
            self.session.problem(entry.error, entry.name)
        elif entry.job_id and self.with_ids:
            emit(entry.job_id)

    def lines(self, what_happened: str) -> Iterator[str]:
        """Yield the summary for people."""
        yield f"batch {self.batch}: {self.verdicts.total()} files"
        yield f"  {self.verdicts['new']} {what_happened}"
        for reason, text in _REASONS.items():
            if self.reasons[reason] and self.reasons[reason] < self.verdicts["new"]:
                yield f"    {self.reasons[reason]} {text}"
            elif self.reasons[reason] and reason != "first_time":
                yield f"    all {text}"
        for verdict, text in (
            ("known", "known already"),
            ("duplicate", "listed twice, taken once"),
            ("problem", "with a problem, left out"),
        ):
            if self.verdicts[verdict]:
                yield f"  {self.verdicts[verdict]} {text}"

    def summary(self) -> dict[str, object]:
        """Return the summary for programs."""
        return {
            "type": "summary",
            "batch": self.batch,
            "files": self.verdicts.total(),
            **{name: self.verdicts[name] for name in ("new", "known", "duplicate", "problem")},
            "reasons": {name: self.reasons[name] for name in _REASONS},
        }


@app.command()
def submit(
    context: typer.Context,
    paths: Paths = None,
    *,
    manifest: Manifests = None,
    batch: BatchName = None,
    include: Include = None,
    exclude: Exclude = None,
    null: Null = False,
    priority: AskedPriority = Priority.DEFAULT,
    retry_failed: RetryFailed = False,
    wait: Wait = True,
    dry_run: DryRun = False,
    as_json: AsJsonLines = False,
    language: Language = None,
    task: Task = None,
    prompt: Prompt = None,
    words: Words = False,
) -> None:
    """Enqueue recordings: what is new, changed, or failed for a passing reason; nothing twice.

    Prints job ids for single files, and the batch's name for folders, patterns, lists and
    manifests. Problems with single files are listed on stderr and do not stop the rest.

    Examples:
      scribefarm submit talk.mp3 interview.wav
      scribefarm submit ~/archive --exclude "drafts/*" --batch archive
      scribefarm submit "talks/**/*.flac" --language de --dry-run
      find . -name "*.wav" -print0 | scribefarm submit -0 -
      scribefarm submit --manifest recordings.csv --priority low
    """
    session = session_of(context)
    arguments, manifests = paths or [], manifest or []
    if not arguments and not manifests:
        raise InvalidOptions("submit", "needs files, folders, - or --manifest")
    options = asked_options(
        session.settings, language=language, task=task, prompt=prompt, words=words
    )
    request = Request(
        batch=_batch_name(session, batch, [*arguments, *map(str, manifests)]),
        options=options,
        queue=_queue_of(session, priority),
        retry_failed=retry_failed,
    )
    # A list of ids is of use for single files; for an archive it is the batch.
    is_archive = bool(manifests) or any(_is_many(path) for path in arguments)
    tally = _Tally(session, request.batch, not (is_archive or as_json or dry_run), as_json)
    patterns = Patterns(tuple(include or ()), tuple(exclude or ()))
    with Names() as names, HashCache() as cache:
        found = _find(arguments, manifests, names, patterns, b"\0" if null else b"\n")
        if dry_run:
            _plan(session, found, request, cache, tally)
        else:
            _submit(session, found, request, cache, tally, wait=wait)
            if is_archive and not as_json:
                emit(request.batch)
    session.finish()


def _is_many(argument: str) -> bool:
    """Say whether an argument stands for many files; a file that is missing is still one."""
    path = Path(argument)
    return argument == "-" or path.is_dir() or (has_magic(argument) and not path.exists())


def _submit(
    session: Session,
    found: Iterable[Found],
    request: Request,
    cache: HashCache,
    tally: _Tally,
    *,
    wait: bool,
) -> None:
    waiting = _FullQueue() if wait else None
    entries = submit_archive(
        session.connection, session.settings, found, request, cache, on_full=waiting
    )
    try:
        for entry in entries:
            tally.add(entry)
    except KeyboardInterrupt:
        note(f"stopped after {tally.verdicts.total()} files; the farm goes on with those.")
        note("submit the same again to go on: nothing is enqueued twice.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if tally.as_json:
        emit(json.dumps(tally.summary()))
    for line in tally.lines("enqueued"):
        note(line)
    if tally.verdicts["new"] or tally.verdicts["known"]:
        note(f"watch it:  scribefarm watch {request.batch}")


def _plan(
    session: Session,
    found: Iterable[Found],
    request: Request,
    cache: HashCache,
    tally: _Tally,
) -> None:
    audio_s, num_unknown = 0.0, 0
    for entry, recording in plan_archive(
        session.connection, session.settings, found, request, cache
    ):
        tally.add(entry)
        if recording is None or entry.verdict != "new":
            continue
        duration_s = header_duration_s(recording.path)
        audio_s += duration_s or 0.0
        num_unknown += duration_s is None
    if tally.as_json:
        planned = {"dry_run": True, "audio_s": round(audio_s, 3), "unknown_length": num_unknown}
        emit(json.dumps(tally.summary() | planned))
        return
    emit("\n".join(tally.lines("would be enqueued")))
    emit(f"  {audio_length(audio_s)} of audio to do, by the headers")
    if num_unknown:
        emit(f"    not counting {num_unknown} whose headers do not say")


class _FullQueue:
    """Says once that submit waits for the farm."""

    def __init__(self) -> None:
        self._is_told = False

    def __call__(self, error: QueueFull) -> None:
        if not self._is_told:
            report(error)
            note("waiting until the farm has room; Ctrl-C stops, --no-wait gives up at once")
            self._is_told = True


def _find(
    arguments: Iterable[str],
    manifests: Iterable[Path],
    names: Names,
    patterns: Patterns,
    separator: bytes,
) -> Iterator[Found]:
    yield from find(_arguments(arguments, separator), names, patterns)
    for manifest in manifests:
        yield from read_manifest(manifest, names)


def _arguments(arguments: Iterable[str], separator: bytes) -> Iterator[str]:
    for argument in arguments:
        if argument == "-":
            yield from read_list(sys.stdin.buffer, separator)
        else:
            yield argument


def _batch_name(session: Session, asked: str | None, arguments: list[str]) -> str:
    if asked is not None:
        if not 1 <= len(asked) <= _MAX_BATCH_LENGTH or not asked.isprintable():
            limit = f"must be 1 to {_MAX_BATCH_LENGTH} printable characters"
            raise InvalidOptions("--batch", limit, readable(asked))
        return asked
    # Plain characters only, since it will be typed into shells.
    stem = Path(arguments[0]).absolute().stem
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", stem).strip("-.")[:40] or "batch"
    # The wall clock, for people.
    name = f"{plain}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    tries = (name if not count else f"{name}-{count}" for count in range(1000))
    return next(free for free in tries if not batch_exists(session.connection, free))


def _queue_of(session: Session, priority: Priority) -> str:
    queues = session.settings.worker.queues
    if priority not in queues:
        raise InvalidOptions("--priority", f"must be one of {', '.join(queues)}", priority)
    return priority


def _entry_fields(entry: Entry) -> dict[str, object]:
    return {
        "type": "file",
        "path": entry.path,
        "name": entry.name,
        "verdict": entry.verdict,
        "job_id": entry.job_id or None,
        "state": entry.state or None,
        "reason": entry.reason,
        "error": entry.error and entry.error.to_dict(),
    }
