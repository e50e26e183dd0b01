"""Commands in errors: one that works for how this copy was installed."""

import importlib.metadata
import json
import shlex
import sys
from pathlib import Path

import pytest

from producer import installation
from producer.installation import Installation, add_command, install_command, install_hint

ROOT = Path(__file__).resolve().parents[2]
WHEEL = "file:///downloads/scribefarm-0.1.0-py3-none-any.whl"


def test_a_clone_is_set_up_by_make():
    """The tests run in one."""
    assert installation.installation() == Installation("clone", folder=ROOT)
    assert install_hint("worker") == f"to install: make -C {ROOT} setup"


@pytest.mark.parametrize(
    ("found", "extra", "packages"),
    [
        (
            Installation("pip"),
            f"{sys.executable} -m pip install 'scribefarm[worker]'",
            f"{sys.executable} -m pip install 'a==1' b",
        ),
        (
            Installation("uv pip", WHEEL),
            f"uv pip install --python {sys.executable} 'scribefarm[worker] @ {WHEEL}'",
            f"uv pip install --python {sys.executable} 'a==1' b",
        ),
        (
            Installation("uv tool", WHEEL, extras=("embedded",)),
            f"uv tool install 'scribefarm[embedded,worker] @ {WHEEL}'",
            f"uv tool install --with 'a==1' --with b 'scribefarm[embedded] @ {WHEEL}'",
        ),
        (
            Installation("pipx"),
            "pipx inject scribefarm 'scribefarm[worker]'",
            "pipx inject scribefarm 'a==1' b",
        ),
    ],
)
def test_the_command_is_that_of_what_installed_us(found, extra, packages):
    """Quoted for a shell: brackets are its patterns."""
    assert shlex.split(install_command("worker", found)) == shlex.split(extra)
    assert shlex.split(add_command("a==1 b", found)) == shlex.split(packages)


class Package:
    """A distribution with these files in its dist-info."""

    def __init__(self, **files):
        self._files = files

    def read_text(self, name):
        """Return a file's text, or None."""
        return self._files.get(name.partition(".")[0])


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (Package(INSTALLER="pip\n"), Installation("pip")),
        (Package(INSTALLER="uv"), Installation("uv pip")),
        (Package(), Installation("pip")),
        (
            Package(direct_url=json.dumps({"url": WHEEL, "archive_info": {}})),
            Installation("pip", WHEEL),
        ),
        (
            Package(
                direct_url=json.dumps(
                    {"url": "https://f.example/x", "vcs_info": {"vcs": "git", "commit_id": "1a2b"}}
                )
            ),
            Installation("pip", "git+https://f.example/x@1a2b"),
        ),
        (
            Package(
                direct_url=json.dumps({"url": "file:///a%20b", "dir_info": {"editable": True}})
            ),
            Installation("clone", folder=Path("/a b")),
        ),
    ],
)
def test_the_package_s_own_records_say_where_it_came_from(monkeypatch, tmp_path, package, expected):
    """As PEP 610 and installers write them."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(installation, "distribution", lambda _name: package)
    assert installation.installation() == expected


def test_tools_of_uv_and_pipx_are_known_by_their_files(monkeypatch, tmp_path):
    """And a folder of sources that was never installed by its absence."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(installation, "distribution", lambda _name: Package(INSTALLER="uv"))
    (tmp_path / "uv-receipt.toml").write_text(
        '[tool]\nrequirements = [{ name = "scribefarm", extras = ["embedded"] }]\n'
    )
    assert installation.installation() == Installation("uv tool", extras=("embedded",))
    (tmp_path / "uv-receipt.toml").unlink()
    (tmp_path / "pipx_metadata.json").write_text("{}")
    assert installation.installation().manager == "pipx"

    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", absent)
    assert installation.installation().folder == ROOT
