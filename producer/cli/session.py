"""One run of the program `scribefarm`: settings and connection, made when a command asks for them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
import typer

from producer.connection import connect
from producer.console import report
from producer.errors import Exit, ScribefarmError
from producer.settings import Settings, load_settings
from producer.spans import configure_spans


@dataclass
class Session:
    """What all commands share, and whether a problem was reported."""

    settings_path: Path | None = None
    _failed: bool = field(default=False, init=False)

    @cached_property
    def settings(self) -> Settings:
        """The effective settings."""
        settings = load_settings(self.settings_path)
        configure_spans(settings.trace, "scribefarm")
        return settings

    @cached_property
    def connection(self) -> redis.Redis:
        """A connection to the server, started first if it is the embedded one."""
        return connect(self.settings)

    def use(self, **sections: Mapping[str, Any]) -> None:
        """Let values of the command line stand for those of the settings, by section and key."""
        own = {
            section: getattr(self.settings, section).model_copy(update=dict(values))
            for section, values in sections.items()
        }
        self.settings = self.settings.model_copy(update=own)

    def problem(self, error: ScribefarmError, about: str = "") -> None:
        """Report an error that does not stop the rest; the command will exit with 1."""
        self._failed = True
        report(error, about)

    def finish(self) -> None:
        """End the command with 0, or with 1 if a problem was reported."""
        if self._failed:
            raise typer.Exit(Exit.SOME_FAILED)


def session_of(context: typer.Context) -> Session:
    """Return the session of this run; `producer.__main__` has left the settings file for it."""
    root = context.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session(root.obj)
    return root.obj
