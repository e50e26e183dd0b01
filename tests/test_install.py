"""The installer for Macs, run with stand-ins for what only a Mac has."""

import os
import plistlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

INSTALL = Path(__file__).resolve().parent.parent / "deploy" / "install"
URL = "rediss://worker:secret@farm.example:6380"


@pytest.fixture
def install(tmp_path):
    """Return a function that runs the installer; its home is `tmp_path`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    venv = f'mkdir -p "${{@: -1}}/bin"; ln -sf {sys.executable} "${{@: -1}}/bin/python"'
    stand_ins = {
        "uname": '[ "$1" = -s ] && echo Darwin || echo arm64',
        "uv": f'[ "$1" != venv ] || {{ {venv}; }}',
        "launchctl": "exit 0",
    }
    for name, body in stand_ins.items():
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)

    def run(*arguments, **environment):
        path = f"{programs}:{os.environ['PATH']}"
        return subprocess.run(
            [str(INSTALL), *arguments],
            env={"PATH": path, "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def settings_file(tmp_path):
    """Return the place of the settings that the installer writes."""
    return tmp_path / ".scribefarm" / "settings.toml"


def test_the_install_script_is_valid_shell():
    """Parsed, and linted where shellcheck is installed."""
    subprocess.run(["bash", "-n", str(INSTALL)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(INSTALL)], check=True)


def test_the_first_run_writes_settings_and_a_launchd_file(install, settings_file, tmp_path):
    """Nobody else may read the settings, which hold a password."""
    assert install(URL, "openai/whisper-small").returncode == 0
    assert tomllib.loads(settings_file.read_text()) == {
        "redis": {"url": URL},
        "model": {"name": "openai/whisper-small"},
    }
    assert settings_file.stat().st_mode & 0o077 == 0
    (agent,) = (tmp_path / "Library/LaunchAgents").iterdir()
    assert str(settings_file) in str(plistlib.loads(agent.read_bytes()))


@pytest.mark.parametrize(
    "before",
    [
        '[model]\nname = "m"\n',
        '[redis]\nsocket_timeout_s = 3.0\n[model]\nname = "m"\n',
        f'[redis] # ours\nurl = "redis://old"\n[model]\nname = "m" # {URL}\n',
        '# url = "redis://shown"\n[redis]\n# url = "redis://shown"\n[model]\nname = "m"',
    ],
)
def test_another_run_sets_the_address_wherever_it_stood_or_did_not(install, settings_file, before):
    """Without the key a worker would start a server of its own, and nobody would notice."""
    settings_file.parent.mkdir()
    settings_file.write_text(before)
    assert install(URL).returncode == 0
    after = tomllib.loads(settings_file.read_text())
    assert after["redis"]["url"] == URL
    assert after["model"] == {"name": "m"}
    assert install(URL, "other").returncode == 0
    assert tomllib.loads(settings_file.read_text())["model"] == {"name": "other"}


def test_settings_of_a_form_that_we_do_not_write_are_left_to_their_owner(install, settings_file):
    """Said, and not half changed."""
    settings_file.parent.mkdir()
    settings_file.write_text('redis.url = "redis://old"\n')
    done = install(URL)
    assert done.returncode != 0
    assert "by hand" in done.stderr
    assert settings_file.read_text() == 'redis.url = "redis://old"\n'


@pytest.mark.parametrize("part", ["\n", "\t", "\x1b", '"', "\\", "<", ">", "&", "#"])
def test_what_would_break_out_of_the_files_is_refused(install, part, tmp_path):
    """In the address, the model and the folder; nothing is made."""
    for done in (
        install(f"{URL}{part}x"),
        install(URL, f"m{part}x"),
        install(URL, SCRIBEFARM_PREFIX=f"{tmp_path}/a{part}b"),
    ):
        assert done.returncode == 2, part
        assert done.stderr.startswith("install: no "), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin"]


def test_a_folder_with_spaces_and_accents_is_fine(install, tmp_path):
    """Homes have such names."""
    done = install(URL, SCRIBEFARM_PREFIX=f"{tmp_path}/Büro 2/farm")
    assert done.returncode == 0, done.stderr
    (agent,) = (tmp_path / "Library/LaunchAgents").iterdir()
    assert f"{tmp_path}/Büro 2/farm" in str(plistlib.loads(agent.read_bytes()))


def test_help_says_how_it_is_used_on_any_machine():
    """Linux too, where it then says what to use instead."""
    for flag in ("-h", "--help"):
        done = subprocess.run([str(INSTALL), flag], capture_output=True, text=True, check=True)
        assert "deploy/install rediss://worker:PASSWORD@farm.example:6380 [MODEL]" in done.stdout
        assert "--remove" in done.stdout
        assert "set -euo" not in done.stdout
