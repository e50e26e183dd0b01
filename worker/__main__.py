"""The program `scribefarm-worker`: its commands, and what becomes of an error."""

import sys
import traceback
from typing import NoReturn

import typer

from producer.console import Version, report
from producer.errors import Exit, InvalidSettings, ScribefarmError, ServerUnreachable
from producer.installation import install_hint
from producer.lazy_group import Command, lazy_group, program
from producer.leaving import leave

COMMANDS = (
    Command("models", "worker.cli.models", "List, fetch, check, remove and convert weights."),
    Command(
        "bench",
        "worker.cli.bench",
        "Measure how fast this machine transcribes, and where the time goes.",
    ),
    Command(
        "calibrate",
        "worker.cli.calibrate",
        "Show what this machine takes for a model's work, and the slots that a worker chooses by it.",
    ),
    Command(
        "doctor",
        "worker.cli.doctor",
        "Check this machine: device, memory, BLAS, model, server, decoders; transcribe one window.",
    ),
    Command(
        "accept",
        "worker.cli.accept",
        "Prove this machine: doctor, speed by slots, batches, launchd's network, share, sleep, panics.",
    ),
    Command("run", "worker.run", "Work until stopped."),
)

app = typer.Typer(
    name="scribefarm-worker",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(*, _version: Version = False) -> None:
    """Turn recordings into text: pin one model and work off the farm's queues."""


def main() -> NoReturn:
    """Run the program; errors that we know become one line on stderr, never a traceback."""
    try:
        program(app)()
    except SystemExit as ended:
        leave(ended.code if isinstance(ended.code, int) else Exit.DONE)
    except Exception as error:  # noqa: BLE001 - the last resort of a program
        failure = _known(error)
        if failure is None:
            traceback.print_exc()
            sys.exit(Exit.SOME_FAILED)
        report(failure)
        # Without the interpreter's own end: MLX aborts there if the engine's thread died at work.
        leave(failure.exit_code)
    sys.exit(Exit.DONE)


def _known(error: Exception) -> ScribefarmError | None:
    if isinstance(error, ScribefarmError):
        return error
    # The producer's packages alone are installed.
    if isinstance(error, ModuleNotFoundError) and not _is_ours(error.name or ""):
        needed = f"must be installed; {install_hint('worker')}"
        return InvalidSettings("worker: packages", needed, error.name)
    # What never reached for a server has not imported this.
    redis = sys.modules.get("redis")
    if redis is not None and isinstance(error, redis.RedisError):
        return ServerUnreachable("redis", "must do what we ask", error)
    return None


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in {"producer", "worker"}


if __name__ == "__main__":
    main()
