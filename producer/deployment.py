"""The files with which workers are set up: in a clone, and within a wheel (pyproject.toml)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from producer.errors import InvalidOptions
from producer.output_files import output_errors

# Where a wheel has what stands in the root of a clone. Only wheels have this folder.
SHIPPED = Path(__file__).parent / "shipped"
# What `deploy/install` and `deploy/Dockerfile` build a worker from.
ROOT_FILES = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "settings.toml")
FOLDERS = ("deploy", "producer", "worker")
_ROOT = Path(__file__).resolve().parents[1]


def write_files(folder: Path) -> Iterator[Path]:
    """Copy what stands in the root of a clone into a new or empty folder; yield each file.

    The sources are those of the package that runs this, so both have one version.

    Raises:
        InvalidOptions: the folder holds something already.
        OutputFailed: it cannot be written.
    """
    with output_errors("deploy files", folder):
        folder.mkdir(parents=True, exist_ok=True)
        if next(folder.iterdir(), None) is not None:
            raise InvalidOptions("deploy files", "must be a new or empty folder", folder)
    for source, name in _files():
        target = folder / name
        with output_errors("deploy files", target):
            target.parent.mkdir(parents=True, exist_ok=True)
            # With the mode: the installer is a program.
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        yield target


def _files() -> Iterator[tuple[Path, Path]]:
    """Yield each file, and its path in a clone."""
    root = SHIPPED if SHIPPED.is_dir() else _ROOT
    for name in ROOT_FILES:
        yield root / name, Path(name)
    for name in FOLDERS:
        # A wheel has the package itself only once: where it is installed.
        home = root if (root / name).is_dir() else _ROOT
        for path in sorted((home / name).rglob("*")):
            inner = path.relative_to(home)
            if (
                path.is_file()
                and path.suffix != ".pyc"
                and inner.parts[:2] != ("producer", "shipped")
            ):
                yield path, inner
