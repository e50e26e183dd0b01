"""The first hour with the program, as first_hour.txt tells it: real server, real worker, real model."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from producer import embedded
from producer.settings import load_settings
from tests.stage.command import run_command
from tests.stage.farm import ROOT

SCRIPT = Path(__file__).with_name("first_hour.txt")
CLIP = Path(importlib.util.find_spec("moonshine_onnx").origin).parent / "assets" / "beckett.wav"
ANY_LINES = "..."
# Parts whose commands compute: the first by workers of their own, the second by one that runs.
COMPUTING = {"One command", "With a worker"}


class Typed(NamedTuple):
    """A command line, and what it is said to print and to return."""

    line: str
    stdout: list[str]
    stderr: list[str]
    code: int


def parts_of(text):
    """Return the parts of the script by title, each a list of `Typed`."""
    _, *parts = re.split(r"^=== (.+)$\n", text, flags=re.MULTILINE)
    return {
        title: list(typed_of(body)) for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def typed_of(body):
    """Yield the commands of a part."""
    for command in re.split(r"^\$ ", body.strip(), flags=re.MULTILINE)[1:]:
        line, *said = command.rstrip().splitlines()
        code = int(said.pop().strip("[]")) if said and re.fullmatch(r"\[\d+\]", said[-1]) else 0
        stderr = [each.removeprefix("! ") for each in said if each.startswith("! ")]
        stdout = [each for each in said if not each.startswith("! ")]
        yield Typed(line, stdout, stderr, code)


PARTS = parts_of(SCRIPT.read_text(encoding="utf-8"))


def fits(expected, lines):
    """Return whether lines are as expected, with `*` and `?` in a line and `...` between lines."""
    pattern = "".join(
        r"(?:.*\n)*" if each == ANY_LINES else f"{in_line(each)}\n" for each in expected
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in lines)) is not None


def in_line(expected):
    """Return the pattern of a line."""
    return re.escape(expected.rstrip()).replace(r"\*", ".*").replace(r"\?", ".")


@pytest.fixture
def home():
    """Return a folder with the recordings that the script speaks of, and a server's place."""
    # Not tmp_path: its long names do not fit into a Unix socket's address.
    folder = Path(tempfile.mkdtemp(prefix="sf-"))
    desk = folder / "desk"
    (desk / "talks/day 1").mkdir(parents=True)
    (desk / "empty").mkdir()
    for name in ("speech.wav", "talks/a.wav"):
        shutil.copy(CLIP, desk / name)
    (desk / "talks/day 1/broken.mp3").write_bytes(b"no audio at all " * 10)
    (desk / "talks/notes.txt").write_text("to do")
    (desk / "list.txt").write_text("speech.wav\ntalks/a.wav\n")
    yield folder
    embedded.stop(load_settings(redis={"embedded_dir": folder / "server"}))
    shutil.rmtree(folder)


@pytest.fixture
def environment(home):
    """Return the variables of a person who has configured nothing, at a wide terminal."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SCRIBEFARM_")}
    return {
        **ours,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(home),
        "COLUMNS": "200",
        "TERMINAL_WIDTH": "200",
        "TERM": "dumb",
        "PYTHONPATH": str(ROOT),
        "SCRIBEFARM_REDIS__EMBEDDED_DIR": str(home / "server"),
    }


def run(typed, home, environment):
    """Run a command line as it is typed, and say what it should have done."""
    program, *words = shlex.split(typed.line)
    given = b""
    if "<" in words:
        *words, _, file = words
        given = (home / "desk" / file).read_bytes()
    if program == "scribefarm":
        done = run_command(words, env=environment, cwd=home / "desk", stdin=given)
    else:
        script = Path(sys.executable).with_name(program)
        done = subprocess.run(
            [script, *words], env=environment, cwd=home / "desk", capture_output=True, check=False
        )
    stdout, stderr = (text.decode().splitlines() for text in (done.stdout, done.stderr))
    shown = "\n".join(["$ " + typed.line, *stdout, *(f"! {line}" for line in stderr)])
    assert (done.returncode, shown) == (typed.code, shown)
    assert fits(typed.stdout, stdout), shown
    assert fits(typed.stderr, stderr), shown


@pytest.mark.parametrize("part", [title for title in PARTS if title not in COMPUTING])
def test_the_first_hour_without_computing(part, home, environment):
    """Help, slips and queued work; what is refused has started no server."""
    for typed in PARTS[part]:
        run(typed, home, environment)
    if {typed.code for typed in PARTS[part]} == {2}:
        assert not (home / "server").exists()


@pytest.mark.slow
@pytest.mark.weights
def test_the_first_hour_in_one_command(home, environment):
    """Server and worker are started and stopped again."""
    for typed in PARTS["One command"]:
        run(typed, home, environment)


@pytest.mark.slow
@pytest.mark.weights
def test_the_first_hour_with_a_worker(home, environment):
    """`scribefarm-worker run` in another window."""
    script = Path(sys.executable).with_name("scribefarm-worker")
    with (home / "worker.log").open("wb") as log:
        worker = subprocess.Popen([script, "run"], env=environment, stdout=log, stderr=log)
    try:
        for typed in PARTS["With a worker"]:
            run(typed, home, environment)
    finally:
        worker.terminate()
        worker.wait(60)


def test_the_script_has_the_commands_of_an_hour():
    """And says of each what becomes of it."""
    assert len({typed.line for part in PARTS.values() for typed in part}) >= 40
    assert set(PARTS) >= COMPUTING
    assert [{typed.code for typed in part} for part in PARTS.values()].count({2}) == 1


def test_a_line_that_differs_does_not_fit():
    """The script's own reader."""
    assert fits(["a *", "...", "c"], ["a b", "x", "y", "c"])
    assert fits(["..."], [])
    assert not fits([], ["a"])
    assert not fits(["a"], [])
    assert not fits(["a *"], ["b a "])
    assert not fits(["a", "c"], ["a", "b", "c"])
