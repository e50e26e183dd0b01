"""A network share that can hang: `python -m tests.chaos.share FOLDER MOUNT`.

It passes everything on to a folder, through FUSE, read-only. Stop the process (SIGSTOP) and whoever
opens or reads a file hangs, as with a server that does not answer; kill it and every access fails.
"""

import errno
import os
import subprocess
import sys
from pathlib import Path

from tests.stage.farm import ROOT, wait_until


def is_possible() -> bool:
    """Return whether this machine lets us mount one: FUSE, its library, and the right to."""
    try:
        import mfusepy  # noqa: F401 - loads libfuse
    except (ImportError, OSError):
        return False
    return os.access("/dev/fuse", os.R_OK | os.W_OK)


class Share:
    """A mounted share; `process` is its server."""

    def __init__(self, folder: Path, mount: Path) -> None:
        mount.mkdir(parents=True, exist_ok=True)
        self.mount = mount
        command = [sys.executable, "-m", "tests.chaos.share", str(folder), str(mount)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        wait_until(mount.is_mount, 20)

    def stop(self) -> None:
        """End the server, whatever state it is in, and unmount."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["umount", "--lazy", str(self.mount)], check=False)


def main() -> None:
    from mfusepy import FUSE, FuseOSError, Operations

    class PassThrough(Operations):  # type: ignore[misc]  # has no types
        """The calls that a reader needs, answered by a folder."""

        use_ns = True

        def __init__(self, folder: str) -> None:
            self._folder = folder

        def _path(self, path: str) -> str:
            return self._folder + path

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            del fh
            try:
                found = os.lstat(self._path(path))
            except OSError as error:
                raise FuseOSError(error.errno or errno.EIO) from error
            names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")
            times = {f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("mtime", "ctime")}
            return {name: getattr(found, name) for name in names} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            del fh
            return [".", "..", *(each.name for each in Path(self._path(path)).iterdir())]

        def open(self, path: str, flags: int) -> int:
            return os.open(self._path(path), flags)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            del path
            return os.pread(fh, size, offset)

        def release(self, path: str, fh: int) -> int:
            del path
            os.close(fh)
            return 0

    folder, mount = sys.argv[1:]
    FUSE(PassThrough(folder), mount, foreground=True, ro=True, attr_timeout=0, entry_timeout=0)


if __name__ == "__main__":
    main()
