"""The examples of producer/README.md over HTTP, run as they stand there."""

import json
import os
import shutil
import subprocess

import pytest
from openai import OpenAI

from tests.stage.readme import block
from tests.web.api.conftest import CLIP

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def desk(heard, monkeypatch):
    """Return a folder with the recording and the lines that the examples name; it is the cwd."""
    archive = heard.folder / "archive"
    archive.mkdir(exist_ok=True)
    shutil.copy(CLIP, archive / "talk.wav")
    shutil.copy(CLIP, heard.folder / "interview.wav")
    lines = block("lines").replace("/archive/", f"{archive}/")
    (heard.folder / "lines.jsonl").write_text(lines)
    monkeypatch.chdir(heard.folder)
    monkeypatch.setenv("FARM", heard.url)
    return heard.folder


def run(command, archive):
    """Run a line of the examples and return what it printed."""
    here = command.replace("/archive/", f"{archive}/")
    done = subprocess.run(
        ["bash", "-c", here], capture_output=True, text=True, env=os.environ, check=False
    )
    # --max-time ends what would not end: 28.
    wanted = 28 if "--max-time" in command else 0
    assert done.returncode == wanted, (command, done.stderr)
    return done.stdout


def test_the_examples_of_curl(desk):
    """Each line does what is said of it."""
    commands = block("curl").strip().splitlines()
    printed = [run(command, desk / "archive") for command in commands]
    srt, later, kept, batches, models, job, _, events, _ = printed
    assert srt.startswith("1\n00:00:00,000 --> 00:00:03,000\nEver tried, ever failed.")
    assert json.loads(later)["object"] == "job"
    assert json.loads(kept)["purpose"] == "batch"
    assert json.loads(batches)["object"] == "list"
    assert "whisper-1" in [model["id"] for model in json.loads(models)["data"]]
    assert json.loads(job)["object"] == "job"
    shown = json.loads(run(commands[6], desk))
    assert (shown["batch"], shown["counts"]["total"]) == ("archive", 1)
    assert "event: job_ended" in events
    assert json.loads((desk / "openapi.json").read_text())["openapi"] == "3.1.0"


def test_the_example_of_openais_client(desk, capsys):
    """It prints the text."""
    exec(compile(block("openai"), "example", "exec"), {"OpenAI": OpenAI})
    *_, printed = capsys.readouterr().out.splitlines()
    assert printed.startswith("Ever tried, ever failed.")


def test_the_example_of_lines(desk):
    """The file that the examples hand in: each line is a request."""
    for text in (desk / "lines.jsonl").read_text().splitlines():
        assert json.loads(text)["url"] == "/v1/audio/transcriptions"
