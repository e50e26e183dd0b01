"""The program `scribefarm`: its commands, and what becomes of an error."""

import gc
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from producer.cli import quick_redis
from producer.cli.commands import COMMANDS
from producer.console import SettingsFile, Version, hyphened, report, visible
from producer.errors import Exit, Internal, ScribefarmError, ServerUnreachable
from producer.lazy_group import lazy_group, program
from producer.leaving import leave

app = typer.Typer(
    name="scribefarm",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # openai-whisper writes --output_dir.
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": hyphened},
)

# Objects made since the last look; Python's own 700 means a hundred looks before a command begins.
_GARBAGE_AFTER = 50_000


@app.callback()
def options(
    context: typer.Context,
    settings: SettingsFile = None,
    _with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an error came from.")
    ] = False,
    _version: Version = False,
) -> None:
    """Turn recordings into text: hand them to a farm of workers, read the transcripts.

    Without a Redis of your own (redis.url) all commands share a small embedded server.

    Start here:
      scribefarm transcribe talk.mp3          all in one command, on this machine
      scribefarm-worker run                   a worker; start one on each Mac
      scribefarm submit talk.mp3              hand work in, get a job id
      scribefarm result JOB --wait            read the text

    Exit codes: 0 all done, 1 some failed, 2 wrong usage or settings, 3 no server or no worker.
    Results go to stdout, everything else to stderr.
    """
    context.obj = settings


def main() -> NoReturn:
    """Run the program; errors that we know become one line on stderr, never a traceback."""
    with_traceback = "--traceback" in sys.argv
    # Imports make many objects and no garbage; looking for it takes a twentieth of a command.
    gc.set_threshold(_GARBAGE_AFTER)
    quick_redis.install()
    try:
        program(app)()
    except SystemExit as ended:
        leave(ended.code if isinstance(ended.code, int) else Exit.DONE)
    except Exception as error:  # noqa: BLE001 - the last resort of a program
        if with_traceback:
            sys.stderr.write(visible("".join(traceback.format_exception(error))))
        failure = _failure(error)
        report(failure)
        leave(failure.exit_code)
    leave(Exit.DONE)


def _failure(error: Exception) -> ScribefarmError:
    """Return what an exception is to a person."""
    if isinstance(error, ScribefarmError):
        return error
    # What never reached for a server has not imported this, and saves a tenth of a second.
    redis = sys.modules.get("redis")
    if redis is not None and isinstance(error, redis.RedisError):
        return ServerUnreachable("redis", "must do what we ask", error)
    return Internal(
        "scribefarm", "a defect; run again with --traceback", f"{type(error).__name__}: {error}"
    )


if __name__ == "__main__":
    main()
