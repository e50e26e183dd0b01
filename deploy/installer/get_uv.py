"""Put uv's program into a folder: `python3 get_uv.py VERSION FOLDER`.

Debian's Python has neither pip nor venv, so this takes uv's wheel from the package index with the
standard library alone, checks its hash against the index, and unpacks the one file. UV_DEFAULT_INDEX
or PIP_INDEX_URL name another index than PyPI, as they do for uv and pip.
"""

import hashlib
import io
import json
import os
import platform
import stat
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

TIMEOUT_S = 60
# https://peps.python.org/pep-0691/
INDEX_JSON = "application/vnd.pypi.simple.v1+json"
# What the name of a wheel has for a system and processor; on Linux glibc 2.17 or later.
WHEELS = {
    ("Linux", "x86_64"): "-manylinux_2_17_x86_64.",
    ("Linux", "aarch64"): "-manylinux_2_17_aarch64.",
    ("Darwin", "arm64"): "-macosx_11_0_arm64.",
    ("Darwin", "x86_64"): "-macosx_10_12_x86_64.",
}


def wheel_of(version: str) -> dict[str, object]:
    """Return what the index says of uv's wheel for this machine: its address and hash.

    Raises:
        SystemExit: there is none.
    """
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("PIP_INDEX_URL")
    address = f"{(index or 'https://pypi.org/simple').rstrip('/')}/uv/"
    asked = urllib.request.Request(address, headers={"Accept": INDEX_JSON})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310
        files = json.load(answer)["files"]
    machine = (platform.system(), platform.machine())
    for file in files:
        name = file["filename"]
        if name.startswith(f"uv-{version}-") and WHEELS.get(machine, "/") in name:
            return {**file, "url": urllib.parse.urljoin(address, file["url"])}
    raise SystemExit(
        f"error: the index has no uv {version} for {' '.join(machine)}; "
        "install uv yourself: https://docs.astral.sh/uv/"
    )


def main() -> None:
    """Fetch, check, unpack."""
    version, folder = sys.argv[1], Path(sys.argv[2])
    wheel = wheel_of(version)
    with urllib.request.urlopen(str(wheel["url"]), timeout=TIMEOUT_S) as answer:  # noqa: S310
        content = answer.read()
    hashes = wheel["hashes"]
    expected = hashes.get("sha256") if isinstance(hashes, dict) else None
    if hashlib.sha256(content).hexdigest() != expected:
        raise SystemExit(f"error: {wheel['url']} has not the hash that the index gives for it")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        program = next(name for name in archive.namelist() if name.endswith(".data/scripts/uv"))
        target = folder / "uv"
        target.write_bytes(archive.read(program))
    target.chmod(target.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


if __name__ == "__main__":
    main()
