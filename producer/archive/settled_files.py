"""Notice the files of a folder that nobody writes to any more: by looking again, on any share.

A share tells nobody of changes that another machine makes. So the whole folder is looked through,
entry by entry, and each file's size and time are held against those of the last look: 100,000
files take a second or two.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from producer.archive.find import why_ignored
from producer.archive.patterns import Patterns

# What programs call a file while they write it; with patterns of one's own they might be taken.
_UNFINISHED = (
    *("~", ".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart"),
    *(".tmp", ".temp", ".!ut", ".!qb", ".aria2", ".icloud"),
)


@dataclass(slots=True)
class _Seen:
    """A file as it was at the last look.

    Attributes:
        size: In bytes.
        mtime_ns: Time of its last change.
        since: Monotonic time since which it is so.
        look: Number of the last look that saw it.
        is_given: Whether it was yielded as it is.
    """

    size: int
    mtime_ns: int
    since: float
    look: int
    is_given: bool = False


class SettledFiles:
    """Looks through a folder again and again; each file is given once it has settled.

    Attributes:
        error: What kept the last look from seeing everything; None if nothing did.
    """

    def __init__(
        self,
        folder: Path,
        patterns: Patterns,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch `folder`; a file has settled when size and time stay for `settle_s` seconds."""
        self.error: OSError | None = None
        self._folder, self._patterns = folder, patterns
        self._settle_s, self._clock = settle_s, clock
        self._seen: dict[str, _Seen] = {}
        self._ignored: dict[str, int] = {}
        self._look = 0

    def look(self) -> Iterator[Path]:
        """Look once, and yield the files that have settled or changed and settled again.

        Empty files are waited for: they are to be filled. What cannot be looked at leaves `error`,
        and what was known is kept until it can be.
        """
        self.error = None
        self._look += 1
        folders = [str(self._folder)]
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if self._has_settled(entry, folders):
                            yield Path(entry.path)
            except OSError as error:
                self.error = error
        if self.error is None:
            self._forget_vanished()

    def give_again(self, path: Path) -> None:
        """Yield a file again at the next look: what was to be done with it was not."""
        seen = self._seen.get(str(path))
        if seen is not None:
            seen.is_given = False

    def _has_settled(self, entry: "os.DirEntry[str]", folders: list[str]) -> bool:
        seen = self._seen.get(entry.path)
        if seen is None and not self._is_candidate(entry, folders):
            return False
        try:
            status = entry.stat()
        except OSError:
            return False  # it has vanished, or leads nowhere
        if not stat.S_ISREG(status.st_mode):
            return False
        now = self._clock()
        if seen is None or (seen.size, seen.mtime_ns) != (status.st_size, status.st_mtime_ns):
            seen = _Seen(status.st_size, status.st_mtime_ns, now, self._look)
            self._seen[entry.path] = seen
        seen.look = self._look
        if seen.is_given or not seen.size or now - seen.since < self._settle_s:
            return False
        seen.is_given = True
        return True

    def _is_candidate(self, entry: "os.DirEntry[str]", folders: list[str]) -> bool:
        """Return whether a name that is new is that of a recording; folders are noted."""
        if entry.path in self._ignored:
            self._ignored[entry.path] = self._look
            return False
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                folders.append(entry.path)
            return False
        if self._is_ignored(entry):
            self._ignored[entry.path] = self._look
            return False
        return True

    def _is_ignored(self, entry: "os.DirEntry[str]") -> bool:
        if entry.name.lower().endswith(_UNFINISHED):
            return True
        relative = Path(entry.path).relative_to(self._folder)
        try:
            return bool(why_ignored(entry, relative, self._patterns))
        except OSError:
            return True

    def _forget_vanished(self) -> None:
        for path in [path for path, seen in self._seen.items() if seen.look != self._look]:
            del self._seen[path]
        for path in [path for path, look in self._ignored.items() if look != self._look]:
            del self._ignored[path]
