"""What `transcribe` is given becomes jobs: files, folders, patterns and standard input."""

import contextlib
import posixpath
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError

from producer.archive.find import (
    Found,
    FoundAddress,
    FoundFile,
    Ignored,
    Names,
    Problem,
    find,
    path_to_source,
    readable,
)
from producer.archive.hash_cache import HASH_BLOCK_BYTES, hash_audio
from producer.archive.patterns import Patterns
from producer.batches.summary import ignored_words
from producer.cli.inputs import STDIN, is_many
from producer.cli.session import Session
from producer.console import note
from producer.errors import EmptyInput, InvalidOptions, OutputFailed, ScribefarmError
from producer.job import AudioOptions, Job, Options, invalid_options
from producer.source import shown_source
from producer.versions import source_version

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        help='Files, folders, "patterns/**/*.wav" in quotes, or - for audio on stdin.',
        show_default=False,
    ),
]


class Recording(NamedTuple):
    """A recording to transcribe.

    Attributes:
        path: Where it is.
        title: How messages call it.
        name: Where its outputs are written, as `talks/a.wav`; no other recording has the same.
        is_stdin: It came on stdin; its file goes with the command.
        address: Where a worker fetches it, if it is no file.
    """

    path: Path
    title: str
    name: str
    is_stdin: bool = False
    address: str = ""


@contextlib.contextmanager
def stored_stdin(session: Session, arguments: Iterable[str]) -> Iterator[Path | None]:
    """Keep the audio on stdin in a file while the command runs, if `-` is among the arguments.

    A worker that this command starts may read it, whatever `audio.roots` says.

    Raises:
        InvalidOptions: stdin is a terminal.
        EmptyInput: there is nothing on it.
        OutputFailed: it does not fit onto the disk.
    """
    if STDIN not in arguments:
        yield None
        return
    if sys.stdin.isatty():
        raise InvalidOptions(STDIN, "must be audio from a pipe or a file, not a terminal")
    with tempfile.TemporaryDirectory(prefix="scribefarm-") as folder:
        path = Path(folder).resolve() / "stdin"
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, HASH_BLOCK_BYTES)
        except OSError as error:
            must = f"must fit onto the disk: {error.strerror}; TMPDIR names another folder"
            raise OutputFailed("transcribe: standard input", must, path) from error
        if not path.stat().st_size:
            raise EmptyInput("transcribe: standard input", "must have at least one byte")
        if roots := session.settings.audio.roots:
            session.use(audio={"roots": (*roots, path.parent)})
        yield path


def find_recordings(
    session: Session, arguments: Iterable[str], stdin: Path | None
) -> list[Recording]:
    """Return the recordings at paths, each once, in the order given; report what is none.

    Those in a folder or of a pattern come by name. Outputs mirror folders and patterns, as those
    of `results` do; of single files they are the file's alone, if it is the only one so called.
    """
    recordings: list[tuple[Recording, str]] = []
    ignored: Counter[str] = Counter()
    with Names() as names:
        for argument in arguments:
            if argument == STDIN and stdin is not None:
                stored = Recording(stdin, "standard input", "stdin", is_stdin=True)
                recordings.append((stored, "stdin"))
                continue
            found = list(find([argument], names, Patterns()))
            recordings += _recordings(found, is_many=is_many(argument))
            ignored.update(item.kind for item in found if isinstance(item, Ignored))
            _report_problems(session, argument, found)
    if ignored:
        note(f"ignored {ignored_words(ignored)}")
    return _named_shortly(recordings)


def _recordings(found: list[Found], *, is_many: bool) -> Iterator[tuple[Recording, str]]:
    """Yield what was found by path, each with the name of its outputs if no other has the same."""
    files = [item for item in found if isinstance(item, FoundFile)]
    for path, name, _ in sorted(files, key=lambda file: file.path):
        short = name if is_many else readable(path.name)
        yield Recording(path, readable(str(path)), name), short
    for item in found:
        if isinstance(item, FoundAddress):
            shown = shown_source(item.address)
            recording = Recording(Path(shown), shown, item.name, address=item.address)
            yield recording, posixpath.basename(item.name)


def _report_problems(session: Session, argument: str, found: list[Found]) -> None:
    problems = [item.error for item in found if isinstance(item, Problem)]
    if all(isinstance(item, Ignored) for item in found):
        must = "must find at least one recording"
        problems.append(EmptyInput("transcribe", must, readable(argument)))
    for error in problems:
        # Finding is named after the command that mostly does it.
        context = "transcribe" if error.context == "submit" else error.context
        session.problem(type(error)(context, error.constraint, error.value))


def jobs_of(
    session: Session, recordings: Iterable[Recording], options: Options, audio: AudioOptions
) -> Iterator[tuple[Recording, Job]]:
    """Yield a job for each recording that can be read; report the others."""
    for recording in recordings:
        try:
            yield recording, Job(options=options, audio=audio, **_identified(recording, session))
        except ScribefarmError as error:
            session.problem(error)
        except ValidationError as error:
            session.problem(invalid_options("job", error), recording.title)


def _identified(recording: Recording, session: Session) -> dict[str, Any]:
    """Return the fields of a job that say where its audio is, and which it is."""
    if recording.address:
        version = source_version(recording.address, session.settings.audio)
        return {"source": recording.address, "version": version}
    audio_sha256 = hash_audio(recording.path, "transcribe")
    return {"source": path_to_source(recording.path), "audio_sha256": audio_sha256}


def _named_shortly(found: list[tuple[Recording, str]]) -> list[Recording]:
    """Give each recording its short name, unless others would have the same."""
    taken = Counter(short for _, short in found)
    named = [
        recording._replace(name=short) if taken[short] == 1 else recording
        for recording, short in found
    ]
    is_clear = len({recording.name for recording in named}) == len(named)
    return named if is_clear else [recording for recording, _ in found]
