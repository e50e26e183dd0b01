"""The package as others get it: built, and installed by pip, by uv and as a tool of uv's."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")


def environment(**more):
    """Return variables without those of the environment that the tests run in."""
    ours = {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PACKAGE_REPOSITORY_URL"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {name: str(value) for name, value in more.items()}


def run(*command, cwd, **more):
    """Run a program to its end; what it printed is text."""
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment(**more), capture_output=True,
        text=True, check=False, timeout=500,
    )  # fmt: skip


def checked(*command, cwd, **more):
    """Run a program that must end with 0, and return what it printed on stdout."""
    done = run(*command, cwd=cwd, **more)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def build(folder, *what, url=""):
    """Build into a folder."""
    command = [UV, "build", "--quiet", *what, "--out-dir", str(folder), str(ROOT)]
    checked(*command, cwd=folder, PACKAGE_REPOSITORY_URL=url)
    return folder


def python(version):
    """Return an interpreter of that version that is on this machine, pyenv's among them, or None."""
    done = run(UV, "python", "find", "--no-python-downloads", "--system", version, cwd="/")
    if done.returncode == 0:
        return Path(done.stdout.strip())
    homes = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return max(homes.glob(f"{version}.*/bin/python"), default=None)


def size_bytes(folder):
    """Return what the files below a folder hold."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
