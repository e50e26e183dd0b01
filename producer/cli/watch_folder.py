"""`scribefarm submit --watch FOLDER`: what is put into a folder is transcribed, until stopped."""

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated, NamedTuple, NoReturn

import typer

from producer.archive.find import is_folder, readable
from producer.archive.hash_cache import HashCache
from producer.archive.patterns import Patterns
from producer.archive.prepare import SubmitOptions
from producer.archive.settled_files import SettledFiles
from producer.archive.watch_folder import Noticed, Trouble, WatchFolder
from producer.batches.export import Layout
from producer.cli.options import format_names
from producer.cli.session import Session
from producer.connection import server_name
from producer.console import emit, note, one_line
from producer.errors import Exit, InvalidOptions, ScribefarmError
from producer.output_places import place_of

BESIDE = "beside"
DEFAULT_SETTLE_S = 10.0
_DAY_S = 86_400.0

Watch = Annotated[
    Path | None,
    typer.Option("--watch", help="Take what is put into this folder, until stopped."),
]
Settle = Annotated[
    float, typer.Option(min=0.0, max=_DAY_S, help="Seconds for which a file must not change.")
]
Results = Annotated[
    str | None,
    typer.Option("--results", help="Write transcripts as they come: beside, a folder, or s3://."),
]
Formats = Annotated[str, typer.Option("--format", help="Of --results; commas between.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Of --results: replace files of other content.")
]


class Watched(NamedTuple):
    """A folder to watch, absolute, and where its transcripts go; None: nowhere."""

    path: Path
    layout: Layout | None


def watched(
    folder: Path | None, results: str | None, formats: str, *, overwrite: bool
) -> Watched | None:
    """Return what the flags ask for; None if no folder is to be watched.

    Raises:
        InvalidOptions: no folder, no such format, or results without a watch.
    """
    if folder is None:
        if results is not None:
            raise InvalidOptions("--results", "needs --watch; later: scribefarm results", results)
        return None
    path = folder.absolute()
    if not is_folder(path):
        raise InvalidOptions("--watch", "must be a folder", readable(str(folder)))
    names = format_names(formats)
    if results is None:
        return Watched(path, None)
    if results == BESIDE:
        return Watched(path, Layout(path.parent, names, overwrite=overwrite))
    place = place_of(results)
    if isinstance(place, Path):
        place = place.absolute()
    return Watched(path, Layout(place, names, overwrite=overwrite))


def watch_folder(
    session: Session,
    folder: Watched,
    asked: SubmitOptions,
    patterns: Patterns,
    *,
    settle_s: float,
    as_json: bool,
) -> NoReturn:
    """Watch until Ctrl-C (code 130) or SIGTERM (code 0); the farm goes on with what was taken."""
    signal.signal(signal.SIGTERM, _terminate)
    shown = readable(str(folder.path))
    note(f"watching {shown} as batch {asked.batch}; Ctrl-C ends the watch, the farm goes on")
    code = Exit.DONE
    with HashCache(server=server_name(session.connection)) as cache:
        files = SettledFiles(folder.path, patterns, settle_s)
        watch = WatchFolder(
            session.connection, session.settings, files, folder.path, asked, cache, folder.layout
        )
        try:
            with watch:
                _show_all(watch, as_json=as_json)
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except _Terminated:
            code = Exit.DONE
    note(f"the watch has ended; to go on:  scribefarm submit --watch {shown} --batch {asked.batch}")
    raise typer.Exit(code)


def _show_all(watch: WatchFolder, *, as_json: bool) -> None:
    trouble = ""
    for item in watch.follow():
        if isinstance(item, Noticed):
            trouble = ""
            _show(item, as_json=as_json)
        elif str(item.error) != trouble:
            trouble = str(item.error)
            note(f"waiting: {_said(item)}")


def _said(item: Trouble) -> str:
    if isinstance(item.error, ScribefarmError):
        return f"[{item.error.code}] {item.error}"
    return f"the folder must be readable: {item.error}"


def _show(item: Noticed, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "name": item.name,
            "what": item.what,
            "job_id": item.job_id or None,
            "outputs": [readable(str(path)) for path in item.outputs],
            "error": item.error and item.error.to_dict(),
        }
        emit(json.dumps(fields))
        return
    if item.error is not None:
        why = f": [{item.error.code}] {item.error.constraint}"
    else:
        why = "" if item.outputs else f" {item.job_id}"
        if item.what == "kept":
            why = ": other text stands there; --overwrite replaces it"
        why += "".join(f" -> {readable(str(path))}" for path in item.outputs)
    emit(one_line(f"{item.what} {item.name}{why}"))


class _Terminated(BaseException):
    """SIGTERM: raised where the watch happens to be, so that it ends between two steps."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated
