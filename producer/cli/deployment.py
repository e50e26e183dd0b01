"""`scribefarm deploy`: what sets up workers, from an installed package."""

from pathlib import Path
from typing import Annotated

import typer

from producer.console import emit
from producer.deployment import write_files

app = typer.Typer(no_args_is_help=True, help="Set up workers from an installed package.")


@app.callback()
def deploy() -> None:
    """Set up workers from an installed package."""


@app.command()
def files(
    folder: Annotated[
        Path,
        typer.Argument(help="New or empty folder.", show_default="scribefarm", file_okay=False),
    ] = Path("scribefarm"),
) -> None:
    """Write what a worker's machine needs into a folder, as in a clone.

    That is deploy/ with its installer for Macs, files for launchd, systemd, compose, Docker and
    Redis; settings.toml; this package's sources, and the lock file that the installer goes by.

    Examples:
      scribefarm deploy files farm
      sudo farm/deploy/install rediss://worker@farm.example:6380 base
    """
    for path in write_files(folder):
        emit(str(path))
