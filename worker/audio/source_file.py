"""Opens a recording's file once: what is checked, hashed and decoded are the same bytes.

Everything that reads a recording reads through the one descriptor opened here. Its name is never
opened again: by then it could be another file's.
"""

import fcntl
import io
import os
import stat
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from producer.errors import (
    SourceForbidden,
    SourceNotFound,
    SourceUnreachable,
    UnsupportedFormat,
)
from worker.audio.errors import reason, translated
from worker.audio.reader import PathLike

# macOS's number for "which path has this descriptor", and the longest answer.
_F_GETPATH = 50
_MAX_PATH_BYTES = 1024
# Folders whose sub-folders are mounts, each; below other folders of `/` the first level is.
_FOLDERS_OF_MOUNTS = (Path("/run/media"), Path("/media"), Path("/Volumes"), Path("/mnt"))
# There a folder of the user comes first: /media/USER/DISK.
_FOLDERS_OF_USERS = (Path("/run/media"), Path("/media"))


class SourceFile(io.FileIO):
    """A regular file that is open for reading.

    Attributes:
        path: As the job names it.
    """

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(fd)
        self.path = path


def open_source(path: PathLike, roots: Collection[Path] = ()) -> SourceFile:
    """Open a recording's file, if it is a regular one below `roots`.

    Args:
        path: As the job names it.
        roots: Folders; the file that was opened must lie below one. Empty: any file.

    Raises:
        SourceNotFound: no such file, in a place that is there.
        SourceUnreachable: the disk or share did not answer, or is not mounted; see `is_mounted`.
        SourceForbidden: no permission, or the file that was opened lies outside of `roots`,
            wherever its name has led to before.
        UnsupportedFormat: a folder, a pipe or a device: it could block, or never end.
    """
    name = str(path)
    with translated(name, opening=True):
        try:
            file = _open_regular(name)
        except (FileNotFoundError, NotADirectoryError) as absent:
            place = mount_of(name, roots)
            if not is_mounted(place):
                limit = f"must be on a share that is mounted; {place} is absent or empty"
            elif os.path.lexists(name):
                limit = "must stay where it is; its share was mounted only now"
            else:
                raise SourceNotFound(name, "must exist", reason(absent)) from absent
            raise SourceUnreachable(name, limit, reason(absent)) from absent
        try:
            _check_opened(file, roots)
        except BaseException:
            file.close()
            raise
    return file


def mount_of(name: str, roots: Collection[Path] = ()) -> Path:
    """Return the folder without which nothing of a share is there.

    That is the root that the file's name lies below. Without roots it is the mount by custom
    (`/Volumes/X`, `/mnt/X`, `/media/USER/X`), or else the first folder of the path (`/archive`).
    """
    path = Path(os.path.abspath(name))  # noqa: PTH100 - without following links: they may hang
    for root in roots:
        if path.is_relative_to(root) or path.is_relative_to(root.resolve()):
            return root
    levels = 1
    if any(path.is_relative_to(folder) for folder in _FOLDERS_OF_MOUNTS):
        levels = 2
    for folder in _FOLDERS_OF_USERS:
        if path.is_relative_to(folder):
            levels = len(folder.parts) + 1
            break
    # The root of the file system is a part, and the file's own name is no folder.
    return Path(*path.parts[: min(1 + levels, len(path.parts) - 1)])


def is_mounted(folder: Path) -> bool:
    """Return whether a folder is there and holds anything: an unmounted one is absent or empty."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except NotADirectoryError:
        return True
    except OSError:
        return False


def opened_path(
    fd: int,
    *,
    platform: str = sys.platform,
    ask: Callable[[int, int, bytes], bytes] = fcntl.fcntl,
) -> Path:
    """Return the real path, without links, of the file that a descriptor has open.

    Args:
        fd: The descriptor.
        platform: As `sys.platform`: macOS answers through fcntl, Linux through /proc.
        ask: macOS's fcntl.

    Raises:
        OSError: the system does not say.
    """
    if platform == "darwin":
        answer = ask(fd, _F_GETPATH, bytes(_MAX_PATH_BYTES))
        return Path(os.fsdecode(answer.partition(b"\0")[0]))
    return Path(f"/proc/self/fd/{fd}").readlink()


def _open_regular(name: str) -> SourceFile:
    try:
        is_regular = stat.S_ISREG(Path(name).stat().st_mode)
    except ValueError as error:  # a NUL or a lone surrogate: no file has such a name
        raise SourceNotFound(name, "must be a possible file name") from error
    if not is_regular:
        raise UnsupportedFormat(name, "must be a regular file")
    return SourceFile(name, os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))


def _check_opened(file: SourceFile, roots: Collection[Path]) -> None:
    """Check the file itself: its name may have been another's when it was looked at."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise UnsupportedFormat(file.path, "must be a regular file")
    if not roots:
        return
    path = opened_path(file.fileno())
    if not any(path.is_relative_to(real) for root in roots for real in _real_folders(root)):
        raise SourceForbidden(file.path, "must lie below audio.roots when it is opened", str(path))


def _real_folders(root: Path) -> list[Path]:
    """Return a root as the system names it, by the same call as for files; none if it is absent.

    On macOS that also gives the spelling on disk: names there may differ in case.
    """
    try:
        fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        return [opened_path(fd)]
    finally:
        os.close(fd)
