"""What both programs print: results on stdout, everything else on stderr, an error in one line."""

import sys
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


def report(error: ScribefarmError, about: str = "") -> None:
    """Print one line for an error on stderr."""
    subject = f"{about}: " if about else ""
    note(f"error [{error.code}] {subject}{error}")


def note(message: str) -> None:
    """Print a line on stderr; stdout carries only results."""
    typer.echo(message, err=True)


def emit(text: str) -> None:
    """Print a result on stdout, with its line end."""
    typer.echo(text, nl=not text.endswith("\n"))


def is_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr.isatty()
