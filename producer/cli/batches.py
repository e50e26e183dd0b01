"""`watch`, `status`, `results`, `errors`, `retry`, `cancel`, `report`: look after a batch."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from producer import queue
from producer.archive.find import readable
from producer.batches.actions import cancel_batch, cancel_jobs, retry_batch
from producer.batches.export import Exported, Layout, export_batch
from producer.batches.report import FailureGroup, group_failures, make_report, to_markdown
from producer.batches.views import batch_exists, latest_batches, view_batch
from producer.batches.watching import BatchStatus, look_at
from producer.cli.console import Exit, Session, emit, note, session_of
from producer.cli.watch_view import show_batch, show_farm, status_lines
from producer.errors import ERRORS, InvalidOptions, JobNotFound
from producer.formats import FORMATS, FormatOptions

app = typer.Typer()

Batch = Annotated[
    str | None, typer.Argument(help="Batch; the latest if not given.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Codes = Annotated[
    list[str] | None,
    typer.Option("--code", help="Only this error code; repeat for more.", show_default=False),
]

OutputDir = Annotated[
    Path, typer.Option("--output-dir", "-o", help="Folder to write into.", file_okay=False)
]
FormatNames = Annotated[
    str, typer.Option("--format", help=f"Any of {', '.join(FORMATS)}; commas between.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Write results as they come, until all are.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files of other content.")]
LineWidth = Annotated[
    int | None, typer.Option(help="Subtitles: characters in a line (needs --words).")
]
LineCount = Annotated[int | None, typer.Option(help="Subtitles: lines at once.")]
WordsPerLine = Annotated[int | None, typer.Option(help="Subtitles: words at once.")]
HighlightWords = Annotated[
    bool, typer.Option("--highlight-words", help="Subtitles: underline the spoken word.")
]


@app.command()
def watch(
    context: typer.Context,
    batch: Batch = None,
    *,
    every: Annotated[
        float | None,
        typer.Option(min=0.2, help="Seconds between looks.", show_default="1, or 10 as lines"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON line a look.")] = False,
) -> None:
    """Show how a batch gets on, until it is done: files, speed, time left, workers.

    On a terminal a live view, else a plain line a look. Ctrl-C leaves the farm working.
    Exit code 0: all succeeded. 1: some failed.

    Examples:
      scribefarm watch
      scribefarm watch archive-20251123-2200 --every 60 >> night.log
    """
    session = session_of(context)
    name = batch_of(session, batch)
    try:
        last = show_batch(session, name, every_s=every, as_json=as_json)
    except KeyboardInterrupt:
        note(f"the farm goes on; come back with:  scribefarm watch {name}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    _exit_by(last)


@app.command()
def status(context: typer.Context, batch: Batch = None, *, as_json: AsJson = False) -> None:
    """Say how the farm stands on one screen: workers, queues, latest batches; or one batch.

    Examples:
      scribefarm status
      scribefarm status archive --json
    """
    session = session_of(context)
    if batch is None:
        show_farm(session, as_json=as_json)
        return
    look = look_at(session.connection, session.settings, batch)
    emit(look.model_dump_json() if as_json else "\n".join(status_lines(look)))


@app.command()
def results(
    context: typer.Context,
    batch: Batch = None,
    *,
    output_dir: OutputDir,
    formats: FormatNames = "txt",
    follow: Follow = False,
    overwrite: Overwrite = False,
    max_line_width: LineWidth = None,
    max_line_count: LineCount = None,
    max_words_per_line: WordsPerLine = None,
    highlight_words: HighlightWords = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line a file instead of its path.")
    ] = False,
) -> None:
    """Write the transcripts of a batch into a folder that mirrors the archive.

    Prints the files it wrote. Files that are there already with the same content are left alone,
    others only replaced with --overwrite.
    Exit code 0: every file of the batch has its results. 1: some failed, or are not there yet.

    Examples:
      scribefarm results archive --output-dir texts
      scribefarm results archive -o subtitles --format srt,vtt --follow
    """
    session = session_of(context)
    name = batch_of(session, batch)
    options = FormatOptions.parse(
        max_line_width=max_line_width,
        max_line_count=max_line_count,
        max_words_per_line=max_words_per_line,
        highlight_words=highlight_words,
    )
    layout = Layout(output_dir, _format_names(formats), options, overwrite)
    counts = _export(session, name, layout, follow=follow, as_json=as_json)
    note(_export_summary(counts))
    if counts["failed"]:
        note(f"why:  scribefarm errors {name}")
    if set(counts) - {"written", "unchanged"}:
        raise typer.Exit(Exit.SOME_FAILED)


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
    views = view_batch(session.connection, batch_of(session, batch))
    groups = [
        group
        for group in group_failures(session.connection, views)
        if not wanted or group.code in wanted
    ]
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
        queue.job_state(connection, target)
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
    as_json: AsJson = False,
) -> None:
    """Print the report on a batch as Markdown: totals, speed, failures, segments to review.

    Exit code 0: all succeeded. 1: some failed, or are not done yet.

    Examples:
      scribefarm report archive > report.md
      scribefarm report archive --json | jq .counts
    """
    session = session_of(context)
    made = make_report(session.connection, batch_of(session, batch))
    text = made.model_dump_json(indent=2) if as_json else to_markdown(made)
    if output is None:
        emit(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
        note(f"wrote {output}")
    if made.counts.succeeded < made.counts.total:
        raise typer.Exit(Exit.SOME_FAILED)


def batch_of(session: Session, given: str | None) -> str:
    """Return the batch that a command is about.

    Raises:
        JobNotFound: none was ever submitted.
    """
    if given is not None:
        return given
    if latest := latest_batches(session.connection, 1):
        return latest[0]
    raise JobNotFound("batch", "nothing was submitted yet; start with: scribefarm submit FOLDER")


def _emit_lines(lines: Iterable[str]) -> None:
    for line in lines:
        emit(line)


def _known_codes(codes: list[str] | None) -> list[str]:
    for code in codes or ():
        if code not in ERRORS:
            raise InvalidOptions("--code", f"must be one of {', '.join(ERRORS)}", code)
    return codes or []


def _format_names(formats: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in formats.split(",")))
    for name in names:
        if name not in FORMATS:
            raise InvalidOptions("--format", f"must be of {', '.join(FORMATS)}", name)
    return names


def _export(
    session: Session, batch: str, layout: Layout, *, follow: bool, as_json: bool
) -> Counter[str]:
    counts: Counter[str] = Counter()
    try:
        for item in export_batch(session.connection, batch, layout, follow=follow):
            counts[item.status] += 1
            _show_export(session, item, as_json=as_json)
    except KeyboardInterrupt:
        again = f"scribefarm results {batch} -o {layout.folder}"
        note(f"the farm goes on; go on writing with:  {again}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    return counts


def _show_export(session: Session, item: Exported, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "name": item.name,
            "status": item.status,
            "path": item.path and readable(str(item.path)),
            "error": item.error and item.error.to_dict(),
        }
        emit(json.dumps(fields))
    elif item.status == "written":
        emit(readable(str(item.path)))
    if item.error:
        session.problem(item.error, item.name)
    elif item.status == "kept":
        note(f"kept {readable(str(item.path))}: it has other content; --overwrite replaces it")


def _export_summary(counts: Counter[str]) -> str:
    words = {
        "written": "written",
        "unchanged": "there already",
        "kept": "kept, not overwritten",
        "problem": "not writable",
        "failed": "failed recordings",
        "pending": "recordings not done yet",
    }
    return (
        ", ".join(f"{counts[key]} {word}" for key, word in words.items() if counts[key]) or "none"
    )


def _group_lines(group: FailureGroup) -> list[str]:
    lines = [f"{group.code or 'unknown'}: {group.count}", f"  {group.advice}"]
    for file in group.files:
        reason = file.error.message if file.error else "the result has expired"
        lines.append(f"  {file.name}: {reason}")
    return [*lines, ""]


def _exit_by(last: BatchStatus) -> None:
    if last.counts.succeeded < last.counts.total:
        raise typer.Exit(Exit.SOME_FAILED)
