"""The program `scribefarm-worker`, and the one place where all parts of the worker meet."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import redis
import structlog
import typer

from producer import log
from producer.connection import connect
from producer.console import SettingsFile, Version, program, report
from producer.errors import Exit, InvalidSettings, ScribefarmError, ServerUnreachable
from producer.result import Model
from producer.settings import Settings, load_settings
from worker.cli import accept, bench, doctor
from worker.cli import models as models_cli
from worker.farm.farm_worker import EXIT_FORCED, FarmWorker
from worker.log_file import follow
from worker.sources.fetch import Fetch

app = typer.Typer(
    name="scribefarm-worker",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_cli.app, name="models")
app.command()(bench.bench)
app.command()(doctor.doctor)
app.command()(accept.accept)


@app.callback()
def options(*, _version: Version = False) -> None:
    """Turn recordings into text: pin one model and work off the farm's queues."""


@app.command()
def run(
    *,
    settings: SettingsFile = None,
    burst: Annotated[bool, typer.Option(help="End when the queues are empty.")] = False,
    name: Annotated[
        str | None,
        typer.Option(help="Name in logs and results; the host's name if none is given."),
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option(help="Write the log there, not to stderr; it may be rotated.")
    ] = None,
) -> None:
    """Work until stopped.

    SIGTERM or Ctrl-C: finish what can be finished within worker.grace_s, hand the rest back to
    the queue with its progress, and end. A second one ends the worker at once.

    Exit codes: 0 drained or done, 1 the model or the engine is broken, 2 wrong usage or settings,
    3 no server, 130 ended at once by a second signal.
    """
    effective = load_settings(settings)
    log.configure(effective.log)
    if log_file is not None:
        follow(log_file)
    _end(_work(effective, name, burst=burst))


def _work(settings: Settings, name: str | None, *, burst: bool) -> int:
    """Load the model, then claim: a worker that cannot work takes nobody's job."""
    connection = connect(settings)
    # Imports MLX: not for --help.
    try:
        from worker.engine.engine import BatchEngine  # noqa: PLC0415
        from worker.models.load import load_family  # noqa: PLC0415
    except ModuleNotFoundError as error:
        needed = (
            "must be installed; pip install 'scribefarm[worker]' brings all that a worker needs"
        )
        raise InvalidSettings("worker: packages", needed, error.name) from error

    structlog.get_logger().info("model_loading", name=settings.model.name)
    started = time.perf_counter()
    engine = BatchEngine(settings, load_family, Fetch(settings))
    _log_model(engine.model, time.perf_counter() - started)
    code = EXIT_FORCED
    try:
        code = FarmWorker(engine, settings, connection, name).run(burst=burst)
    finally:
        # A forced exit does not wait for the device to finish its step.
        if code != EXIT_FORCED:
            engine.stop()
    return code


def _log_model(model: Model, load_s: float) -> None:
    """Say which weights are pinned, once in a worker's life."""
    structlog.get_logger().info("model_pinned", **model.model_dump(), load_s=round(load_s, 3))


def _end(code: int) -> NoReturn:
    """Leave with a code that a script can trust.

    Not through the interpreter's exit: MLX may abort there (134, on a CPU now and then, with CUDA
    always) once another thread than the main one has used the device, and a forced exit waits
    for nothing.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> NoReturn:
    """Run the program; errors that we know become one line on stderr, never a traceback."""
    try:
        program(app)()
    except SystemExit as ended:
        _end(ended.code if isinstance(ended.code, int) else Exit.DONE)
    except ScribefarmError as error:
        _fail(error)
    except redis.RedisError as error:
        _fail(ServerUnreachable("redis", "must do what we ask", type(error).__name__))
    except Exception:  # noqa: BLE001 - the last resort of a program
        traceback.print_exc()
        sys.exit(Exit.SOME_FAILED)
    sys.exit(Exit.DONE)


def _fail(error: ScribefarmError) -> NoReturn:
    report(error)
    sys.stderr.flush()
    # Without the interpreter's own end: MLX aborts there if the engine's thread died at work.
    os._exit(error.exit_code)


if __name__ == "__main__":
    main()
