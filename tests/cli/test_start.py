"""How a command starts: it imports what it uses, and lists of commands import none of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from producer import __main__ as scribefarm_program
from producer.cli.commands import COMMANDS
from worker import __main__ as worker_program

PROGRAMS = {
    "scribefarm": (scribefarm_program.app, COMMANDS),
    "scribefarm-worker": (worker_program.app, worker_program.COMMANDS),
}
# What only some commands need, and what takes long to import.
NEVER = {"numpy", "mlx", "worker", "pydantic_settings", "pygments"}
RARELY = NEVER | {"rich", "rq", "structlog", "tinytag", "urllib3", "redis.asyncio.client"}
AT_A_SERVER = {"redis", "pydantic", "sqlite3", "asyncio"}

# Runs a command, then says on its last line what it has imported.
ASKED = """
import json, os, sys

def end(code, leave=os._exit):
    print()
    print(json.dumps([code, sorted(sys.modules)]), flush=True)
    leave(0)

os._exit = end
from producer.__main__ import main
main()
"""


@pytest.fixture
def imported(settings, tmp_path):
    """Return a function that runs a command in a fresh interpreter: its exit code and its modules.

    The settings are in a file: reading variables takes a library of its own.
    """
    folder = json.dumps(str(settings.redis.embedded_dir))
    (tmp_path / "settings.toml").write_text(f"[redis]\nembedded_dir = {folder}\n")

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", ASKED, *map(str, arguments)],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        code, modules = json.loads(done.stdout.splitlines()[-1])
        return code, set(modules), done.stdout.splitlines()[0]

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_summaries_in_the_help_are_those_of_the_commands(name):
    """They stand in a table, so that the help imports no command; here all are imported."""
    app, table = PROGRAMS[name]
    found = typer.main.get_command(app).commands
    assert [command.name for command in table] == [*found]
    for command in table:
        assert found[command.name].help.splitlines()[0] == command.summary, command.name


def test_every_command_of_a_module_is_in_the_table():
    """A command that is written but not listed could not be called."""
    listed = {}
    for _, table in PROGRAMS.values():
        for command in table:
            listed.setdefault(command.module, set()).add(command.name)
    for module, names in listed.items():
        group = typer.main.get_group(sys.modules[module].app)
        assert names in (set(group.commands), {group.name}) or len(names) == 1, module


@pytest.mark.parametrize(
    ("asked", "drawn"), [("--version", set()), ("--help", {"rich", "pygments"})]
)
def test_what_needs_no_server_imports_no_client_of_one(imported, asked, drawn):
    """Nor settings; only help is drawn by Rich."""
    code, modules, _ = imported(asked)
    assert (code, modules & (RARELY | AT_A_SERVER)) == (0, drawn)


def test_commands_of_a_shell_loop_import_what_they_use(imported, write_wav):
    """`status`, `submit` and `result`, once for each of thousands of files."""
    code, modules, _ = imported("status")
    assert (code, modules & RARELY) == (0, set())
    code, modules, job = imported("submit", write_wav())
    assert (code, modules & RARELY) == (0, set())
    code, modules, _ = imported("result", job)
    assert (code, modules & RARELY) == (1, set())
    assert modules >= {"redis", "pydantic"}


def test_the_asynchronous_half_of_redis_comes_whole_when_it_is_asked_for():
    """For a command that would use it, and for redis-py itself."""
    code = """
import sys
from pathlib import Path
from producer.cli import quick_redis
quick_redis.install()
quick_redis.install()
assert sum(type(finder).__module__ == quick_redis.__name__ for finder in sys.meta_path) == 1
import redis
assert "redis.asyncio.client" not in sys.modules
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import Redis as Other
import redis.asyncio.sentinel
assert Redis is Other is redis.asyncio.Redis
assert not isinstance(redis.Redis(), redis.asyncio.Redis)
assert "__getattr__" not in vars(redis.asyncio)
try:
    redis.asyncio.Nothing
except AttributeError:
    print("whole")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "whole\n"


def test_a_misspelt_command_is_an_error_of_usage_with_a_suggestion():
    """The names are known without their modules."""
    shown = CliRunner().invoke(scribefarm_program.app, ["sbumit"])
    assert shown.exit_code == 2
    assert "submit" in shown.output


def test_the_first_asynchronous_call_imports_beside_the_event_loop():
    """Loading redis and pydantic in the loop's own thread would hold up everything else in it."""
    code = """
import asyncio, sys, threading
import producer

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"redis", "pydantic"}:
            threads.add(threading.current_thread() is threading.main_thread())

threads = set()
sys.meta_path.insert(0, Watch())

async def main():
    try:
        await producer.submit_async([], batch="none", settings=None)
    except Exception as error:
        print(type(error).__name__)

asyncio.run(main())
print(threads)
"""
    environment = {**os.environ, "SCRIBEFARM_REDIS__URL": "redis://127.0.0.1:1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "ServerUnreachable\n{False}\n"


def test_a_command_whose_output_cannot_be_written_does_not_end_well(settings, tmp_path):
    """A full disk, like /dev/full: what is still to be written when the command ends fails then."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "producer", "config"],
            env={**os.environ, **settings.to_environment()},
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode != 0


def test_redis_does_not_load_the_metrics_of_opentelemetry():
    """Who asks for OpenTelemetry afterwards has it whole."""
    code = """
import sys
from producer.cli import quick_redis
quick_redis.install()
import redis
assert not {"opentelemetry.metrics", "opentelemetry.sdk.metrics"} & set(sys.modules)
import opentelemetry.sdk.trace.export
import opentelemetry.metrics
assert opentelemetry.metrics.get_meter("x")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
