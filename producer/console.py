"""What both programs print: results on stdout, everything else on stderr, an error in one line."""

import importlib.metadata
import math
import sys
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from producer.errors import ScribefarmError

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        help="Settings file; else $SCRIBEFARM_SETTINGS, else ./settings.toml.",
        show_default=False,
    ),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scribefarm {importlib.metadata.version('scribefarm')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", "-V", help="Print the version.", callback=_print_version, is_eager=True
    ),
]

# Unicode categories of what a terminal acts on or does not show: controls (ESC among them), formats
# (the overrides of text direction among them), lone surrogates, separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Formats that words and emoji need, and that move nothing: the joiner and the non-joiner.
_JOINERS = frozenset({"\u200c", "\u200d"})


def hyphened(name: str) -> str:
    """Return a flag's name as ours are written: --output_dir is --output-dir."""
    return name.replace("_", "-")


def report(error: ScribefarmError, about: str = "") -> None:
    """Print one line for an error on stderr."""
    subject = f"{about}: " if about else ""
    note(f"error [{error.code}] {subject}{error}")


def note(message: str) -> None:
    """Print a line on stderr; stdout carries only results."""
    typer.echo(one_line(message), err=True)


def emit(text: str) -> None:
    """Print a result on stdout, with its line end; a terminal gets nothing that it would act on."""
    shown = visible(text) if sys.stdout.isatty() else text
    # With color, a file has the text as it is: nothing is taken out that looks like a color.
    typer.echo(shown, nl=not text.endswith("\n"), color=True)


def one_line(text: str) -> str:
    """Return text in one line, controls and what turns its direction as escapes.

    So no name can move a cursor, color a terminal, forge a line or hide a part of itself.
    """
    if text.isprintable():
        return text
    return "".join(_escaped(char) if _is_hidden(char) else char for char in text)


def visible(text: str) -> str:
    """Return text as `one_line` does, with its lines and tabs left as they are."""
    if text.isprintable():
        return text
    return "".join(
        _escaped(char) if _is_hidden(char) and char not in "\n\t" else char for char in text
    )


def format_duration(seconds: float) -> str:
    """Return a duration for people: `4.2 s`, `45 s`, `12 min 05 s` or `3 h 20 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    if round(seconds, 1) < 10:  # noqa: PLR2004 tenths say something only below
        return f"{seconds:.1f} s"
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole_s:02d} s" if minutes else f"{whole_s} s"


def format_bytes(num_bytes: int) -> str:
    """Return a size for people: `75.5 MB`, `145 MB` or `3.1 GB`, in thousands as disks have them."""
    megabytes = num_bytes / 1e6
    if megabytes >= 1000:  # noqa: PLR2004 a thousand
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 100 else f"{megabytes:.1f} MB"  # noqa: PLR2004


def is_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr.isatty()


def _is_hidden(char: str) -> bool:
    return unicodedata.category(char) in _HIDDEN and char not in _JOINERS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()
