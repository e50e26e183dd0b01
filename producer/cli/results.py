"""`results`: the transcripts of a batch become files."""

import json
from collections import Counter
from typing import Annotated

import typer

from producer.archive.find import readable
from producer.batches.export import Exported, Layout, export_batch
from producer.cli.flags import FlagCommand, Given, takes
from producer.cli.options import Batch, batch_of, format_names
from producer.cli.session import Session, session_of
from producer.cli.subtitle_flags import SUBTITLE_FLAGS, asked_subtitles
from producer.console import emit, note, one_line
from producer.errors import Exit
from producer.fleet import live_workers
from producer.formats import DEFAULT_FORMAT_OPTIONS, FORMATS
from producer.output_places import place_of
from producer.pending import PendingJobs

app = typer.Typer()

OutputDir = Annotated[
    str,
    typer.Option(
        "--output-dir", "-o", metavar="FOLDER", help="Folder or s3://BUCKET/PREFIX to write into."
    ),
]
FormatNames = Annotated[
    str, typer.Option("--format", help=f"Any of {', '.join(FORMATS)}; commas between.")
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Write results as they come, until all are.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files of other content.")]


@app.command(cls=FlagCommand)
@takes(*SUBTITLE_FLAGS)
def results(
    context: typer.Context,
    batch: Batch = None,
    *,
    output_dir: OutputDir,
    formats: FormatNames = "txt",
    follow: Follow = False,
    overwrite: Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON line a file instead of its path.")
    ] = False,
    given: Given,
) -> None:
    """Write the transcripts of a batch into a folder that mirrors the archive.

    Prints the files it wrote. Files that are there already with the same content are left alone,
    others only replaced with --overwrite.
    Exit code 0: every file of the batch has its results. 1: some failed, or are not there yet.

    Examples:
      scribefarm results archive --output-dir texts
      scribefarm results archive -o subtitles --format srt,vtt --follow
      scribefarm results archive -o subtitles --format ttml --subtitles netflix
      scribefarm results archive -o s3://bucket/texts --follow
    """
    session = session_of(context)
    options = asked_subtitles(given)
    names = format_names(formats)
    name = batch_of(session, batch)
    layout = Layout(place_of(output_dir), names, options, overwrite)
    counts = _export(session, name, layout, follow=follow, as_json=as_json)
    note(_export_summary(counts))
    if counts["without_words"] and options != DEFAULT_FORMAT_OPTIONS:
        note(
            f"{counts['without_words']} have no times of words (submit --words): in subtitles their "
            "segments' time was shared out by characters, and no word was highlighted"
        )
    if counts["failed"]:
        note(f"why:  scribefarm errors {name}")
    if set(counts) - {"written", "unchanged", "without_words"}:
        raise typer.Exit(Exit.SOME_FAILED)


def _export(
    session: Session, batch: str, layout: Layout, *, follow: bool, as_json: bool
) -> Counter[str]:
    counts: Counter[str] = Counter()
    try:
        on_tick = _AbsenceNote(session)
        found = export_batch(session.connection, batch, layout, follow=follow, on_tick=on_tick)
        for item in found:
            counts[item.status] += 1
            counts["without_words"] += not item.has_words
            _show_export(session, item, as_json=as_json)
    except KeyboardInterrupt:
        again = f"scribefarm results {batch} -o {layout.folder}"
        note(f"the farm goes on; go on writing with:  {again}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    return counts


class _AbsenceNote:
    """Says once that no worker is alive, and goes on waiting: one may be started any time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_said = False

    def __call__(self, _pending: PendingJobs) -> None:
        if self._is_said or live_workers(self._session.connection, self._session.settings):
            return
        self._is_said = True
        note("no worker is alive; start one: scribefarm-worker run")


def _show_export(session: Session, item: Exported, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "name": item.name,
            "status": item.status,
            "path": item.path and readable(str(item.path)),
            "source": item.source or None,
            "code": item.error and item.error.code,
            "error": item.error and item.error.to_dict(),
        }
        emit(json.dumps(fields))
    elif item.status == "written":
        emit(one_line(readable(str(item.path))))
    if item.error and item.status == "problem":
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
