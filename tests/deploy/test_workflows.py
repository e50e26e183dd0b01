"""The workflows: linted, and their steps run here as far as they mean something on Linux."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.stage.farm import free_port
from tests.stage.stand_in_mac import ROOT, StandInMac

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What nothing but a Mac has, or what this very suite is.
NOT_HERE = {
    "this machine": "sw_vers and sysctl are macOS's",
    "packages from the lock file": "the tests run in what it makes",
    "style and types": "make lint type, beside the tests",
    "the GPU": "asks for MLX's device",
    "the decoder's own tests": "pytest",
    "names in both forms, case, long paths": "pytest",
    "everything else": "pytest",
    "the quick tests": "pytest",
    "a server that speaks TLS, and a linter of shell": "installs packages",
    "doctor": "tests/cli/test_doctor.py",
    "tag, version and changelog agree": "tests/deploy/test_release.py runs its script",
    "wheel and sources": "tests/deploy/test_release.py builds them",
    "what an index would refuse": "tests/deploy/test_release.py renders the page as PyPI does",
    "the wheel runs": "tests/deploy/test_installed.py runs it",
    "a release with the changelog's entry": "asks a forge",
    "the text of the first page": "tests/test_readme.py has the same demo",
}


def steps(name):
    """Return the named steps of a workflow, of all its jobs."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    every = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return {step["name"]: step for step in every if "run" in step}


@pytest.fixture
def clone(tmp_path):
    """Return a folder that looks like a clone, with the tests' own environment."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for each in ROOT.iterdir():
        if each.name not in {".git", "tables"}:
            (folder / each.name).symlink_to(each)
    if not (ROOT / ".venv").exists():
        (folder / ".venv").symlink_to(Path(sys.prefix))
    (folder / "tables").mkdir()
    return folder


@pytest.fixture
def run_step(clone, monkeypatch):
    """Return a function that runs a step of mac.yml as the runner does: bash, ended by an error."""

    def run(name, **env):
        variables = {k: v for k, v in os.environ.items() if not k.startswith("SCRIBEFARM_")}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps("mac.yml")[name]["run"]],
            cwd=clone, env=variables | env, capture_output=True, text=True, timeout=400,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_lint(path):
    """Syntax, types of expressions, runners, inputs of actions; the shell of steps by shellcheck."""
    program = shutil.which("actionlint") or shutil.which(
        "actionlint", path=str(Path(sys.executable).parent)
    )
    ended = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_every_step_is_run_here_or_says_why_not():
    """A step that nothing runs goes stale."""
    named = {name for path in WORKFLOWS for name in steps(path.name)}
    run = set(re.findall(r'run_step\(\s*"([^"]+)"', Path(__file__).read_text()))
    assert named == run | set(NOT_HERE)


def test_every_test_file_and_target_that_a_step_names_exists():
    """Folders move, and a workflow is run too seldom to notice."""
    for path in WORKFLOWS:
        for step in steps(path.name).values():
            for named in re.findall(r"\b(?:tests|deploy)/[\w./-]*", step["run"]):
                assert (ROOT / named).exists(), named
            for target in re.findall(r"\bmake ([a-z ]+)", step["run"]):
                for word in target.split():
                    assert f"\n{word}:" in (ROOT / "Makefile").read_text(), word


def test_the_mac_workflow_covers_what_people_have():
    """Three versions of macOS, the oldest and the newest Python."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "mac.yml").read_text())
    matrix = workflow["jobs"]["mac"]["strategy"]["matrix"]["include"]
    assert {each["os"] for each in matrix} == {"macos-14", "macos-15", "macos-26"}
    assert {"3.11", "3.12", "3.14"} == {each["python"] for each in matrix}


def test_launchd_files_and_shell_pass(run_step, tmp_path):
    """plutil is the stand-in that reads them."""
    stubs = StandInMac(tmp_path / "mac").folder / "stubs"
    (stubs / "plutil").write_text(
        f"#!{sys.executable}\nimport plistlib, sys\n"
        "for path in sys.argv[2:]: plistlib.load(open(path, 'rb'))\n"
    )
    ended = run_step("launchd files and bash 3.2", PATH=f"{stubs}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_tables_are_shown(run_step, clone, tmp_path):
    """Each text as a section, the answers as a table."""
    (clone / "tables" / "answers.md").write_text("| a |\n")
    (clone / "tables" / "gpu.txt").write_text("Apple M9\n")
    summary = tmp_path / "summary.md"
    ended = run_step("the tables on the run's page", GITHUB_STEP_SUMMARY=str(summary))
    assert ended.returncode == 0, ended.stderr
    assert summary.read_text() == "| a |\n\n### gpu\n\n```text\nApple M9\n\n```\n"


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_answers_are_compared(run_step, clone):
    """Here on a CPU in float32; the GPU's rows say that there is none."""
    ended = run_step("same answers on GPU and CPU, in float32 and float16, alone and in a batch")
    assert ended.returncode == 0, ended.stderr
    table = (clone / "tables" / "answers.md").read_text()
    assert table.count("| cpu | float32 |") == 4
    assert "another" not in table


@pytest.fixture
def real_mac(tmp_path):
    """Return a stand-in Mac that starts real workers and waits in real time."""
    mac = StandInMac(tmp_path / "mac")
    mac.set("real_worker")
    mac.sleep_really()
    yield mac
    mac.kill_worker()


@pytest.mark.slow
@pytest.mark.timeout(450)
def test_a_daemon_is_installed_twice_and_drained(run_step, clone, real_mac):
    """Real workers, real recordings, real signals; launchd, sudo and users are stand-ins."""
    ended = run_step(
        "a daemon, installed twice over a worker at work, drained by launchd",
        PORT=str(free_port()),
        **real_mac.environment("ann"),
    )
    shown = (clone / "tables" / "daemon.txt").read_text()
    assert ended.returncode == 0, shown + ended.stderr
    assert "Ever tried. Ever failed." in shown
    assert "gone after" in shown
    assert "removed; settings are in" in shown
    assert (clone / "tables" / "daemon_log.txt").read_text().count("worker_stopped") == 2


@pytest.mark.slow
@pytest.mark.timeout(450)
@pytest.mark.parametrize("is_logged_in", [True, False])
def test_an_agent_is_installed_where_somebody_is_logged_in(run_step, clone, real_mac, is_logged_in):
    """Without a login session the installer refuses, and the step knows that."""
    if not is_logged_in:
        (real_mac.folder / "sessions" / "501").unlink()
    ended = run_step(
        "an agent, where somebody is logged in",
        PORT=str(free_port()),
        **real_mac.environment("ann"),
    )
    shown = (clone / "tables" / "agent.txt").read_text()
    assert ended.returncode == 0, shown + ended.stderr
    assert ("removed" in shown) is is_logged_in
