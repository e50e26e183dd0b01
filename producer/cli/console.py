"""What all commands share: settings on demand, results on stdout, everything else on stderr."""

import sys
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import redis
import typer

from producer import queue
from producer.errors import (
    InvalidOptions,
    InvalidSettings,
    NoWorker,
    ScribefarmError,
    ServerUnreachable,
)
from producer.settings import Settings, load_settings


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    NOBODY_THERE = 3
    INTERRUPTED = 130


@dataclass
class Session:
    """One run of the program; settings and connection are made when a command asks for them."""

    settings_path: Path | None = None
    traceback: bool = False
    _failed: bool = field(default=False, init=False)

    @cached_property
    def settings(self) -> Settings:
        """The effective settings."""
        return load_settings(self.settings_path)

    @cached_property
    def connection(self) -> redis.Redis:
        """A connection to the server, started first if it is the embedded one."""
        return queue.connect(self.settings)

    def problem(self, error: ScribefarmError, about: str = "") -> None:
        """Report an error that does not stop the rest; the command will exit with 1."""
        self._failed = True
        report(error, about)

    def finish(self) -> None:
        """End the command with 0, or with 1 if a problem was reported."""
        if self._failed:
            raise typer.Exit(Exit.SOME_FAILED)


def session_of(context: typer.Context) -> Session:
    """Return the session that `producer.__main__` made."""
    return context.ensure_object(Session)


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


def exit_code(error: ScribefarmError) -> Exit:
    """Return the exit code of a command that an error ended."""
    if isinstance(error, InvalidSettings | InvalidOptions):
        return Exit.USAGE
    if isinstance(error, ServerUnreachable | NoWorker):
        return Exit.NOBODY_THERE
    return Exit.SOME_FAILED


def is_terminal() -> bool:
    """Say whether somebody watches stderr."""
    return sys.stderr.isatty()
