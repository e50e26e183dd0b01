"""The program `scribefarm`: its commands, and what becomes of an error."""

import sys
import traceback
from typing import Annotated, NoReturn

import redis
import typer

from producer import log
from producer.cli import (
    archive,
    batches,
    configuration,
    farm,
    jobs,
    models,
    results,
    server,
    transcription,
    watch,
)
from producer.cli.session import Session
from producer.console import SettingsFile, Version, hyphened, program, report, visible
from producer.errors import Internal, ScribefarmError, ServerUnreachable
from producer.settings import LogSettings

app = typer.Typer(
    name="scribefarm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # openai-whisper writes --output_dir.
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": hyphened},
)
for group in (transcription, archive, jobs, watch, results, batches, farm, models, configuration):
    app.add_typer(group.app)
app.add_typer(server.app, name="server")


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
    context.obj = Session(settings)


def main() -> NoReturn:
    """Run the program; errors that we know become one line on stderr, never a traceback."""
    with_traceback = "--traceback" in sys.argv
    log.configure(LogSettings(level="warning", format="console"))
    failure: ScribefarmError
    cause: Exception
    try:
        program(app)()
    except ScribefarmError as error:
        failure = cause = error
    except redis.RedisError as error:
        cause = error
        failure = ServerUnreachable("redis", "must do what we ask", error)
    except Exception as error:  # noqa: BLE001 - the last resort of a program
        cause = error
        failure = Internal(
            "scribefarm", "a defect; run again with --traceback", f"{type(error).__name__}: {error}"
        )
    if with_traceback:
        sys.stderr.write(visible("".join(traceback.format_exception(cause))))
    report(failure)
    sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
