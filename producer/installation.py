"""How this scribefarm was installed, and so which command adds what is missing.

An error that names a command is of use only if the command works here: in a clone, in an environment
of pip's or uv's, as a tool of uv's or pipx's, from an index, a wheel or a repository.
"""

import json
import shlex
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

_NAME = "scribefarm"


class Installation(NamedTuple):
    """Where the package came from, and what manages its environment.

    Attributes:
        manager: `clone`, `uv tool`, `pipx`, `uv pip` or `pip`.
        source: Address of a wheel, folder or repository; "" is an index.
        folder: Of a clone.
        extras: Those that a tool of uv's was asked for; it forgets them if they are not named again.
    """

    manager: str
    source: str = ""
    folder: Path | None = None
    extras: tuple[str, ...] = ()


def install_hint(extra: str) -> str:
    """Return how to get an optional part, such as `worker`, in words for an error."""
    return f"to install: {install_command(extra)}"


def install_command(extra: str, found: Installation | None = None) -> str:
    """Return the shell command that adds an extra of this package, which leaves the others."""
    found = found or installation()
    if found.folder is not None:
        return shlex.join(["make", "-C", str(found.folder), "setup"])
    extras = dict.fromkeys([*found.extras, extra])
    wanted = f"{_NAME}[{','.join(extras)}]" + (f" @ {found.source}" if found.source else "")
    if found.manager == "uv tool":
        return shlex.join(["uv", "tool", "install", wanted])
    return shlex.join([*_installer(found), wanted])


def add_command(requirements: str, found: Installation | None = None) -> str:
    """Return the shell command that adds other packages, named with spaces between, beside ours."""
    found = found or installation()
    packages = requirements.split()
    if found.manager == "uv tool":
        ours = f"{_NAME}[{','.join(found.extras)}]" if found.extras else _NAME
        source = f" @ {found.source}" if found.source else ""
        more = [word for package in packages for word in ("--with", package)]
        return shlex.join(["uv", "tool", "install", *more, ours + source])
    return shlex.join([*_installer(found), *packages])


def installation() -> Installation:
    """Look at the environment that runs this."""
    try:
        package = distribution(_NAME)
    except PackageNotFoundError:
        # Run from a folder of sources.
        return Installation("pip", folder=Path(__file__).resolve().parents[1])
    source, folder = _source(package)
    if folder is not None:
        return Installation("clone", folder=folder)
    receipt = Path(sys.prefix) / "uv-receipt.toml"
    if receipt.is_file():
        return Installation("uv tool", source, extras=_extras(receipt))
    if (Path(sys.prefix) / "pipx_metadata.json").is_file():
        return Installation("pipx", source)
    installer = (package.read_text("INSTALLER") or "").strip()
    return Installation("uv pip" if installer == "uv" else "pip", source)


def _installer(found: Installation) -> list[str]:
    if found.manager == "pipx":
        return ["pipx", "inject", _NAME]
    if found.manager in {"uv pip", "clone"}:
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install"]


def _source(package: Distribution) -> tuple[str, Path | None]:
    """Return a package's address, and the folder if it is used where it stands (PEP 610)."""
    origin: Any = json.loads(package.read_text("direct_url.json") or "{}")
    url = str(origin.get("url", ""))
    if origin.get("dir_info", {}).get("editable"):
        return url, Path(unquote(urlsplit(url).path))
    if version := origin.get("vcs_info"):
        return f"{version['vcs']}+{url}@{version['commit_id']}", None
    return url, None


def _extras(receipt: Path) -> tuple[str, ...]:
    asked: Any = tomllib.loads(receipt.read_text(encoding="utf-8")).get("tool", {})
    for each in asked.get("requirements", []):
        if each.get("name") == _NAME:
            return tuple(each.get("extras", []))
    return ()
