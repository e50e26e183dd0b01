"""A batch by folder: the deepest level of folders that still fits on a page."""

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

# Rows that a person reads.
MAX_FOLDERS = 40
# Folders that are kept apart while a batch is read; of more, the deepest are put together.
_MAX_KEPT = 5000

Sums = list[float]


class FolderSums(BaseModel):
    """The files below one folder, those of its own folders too.

    Attributes:
        path: Relative to the batch; empty for what lies in no folder. `is_rest` marks the sum of
            all folders that are not shown by themselves.
        audio_s: Seconds of audio of those that succeeded.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    is_rest: bool = False
    files: int = 0
    succeeded: int = 0
    failed: int = 0
    audio_s: float = 0.0


class FolderTally:
    """Sums up files by folder, in bounded memory."""

    def __init__(self) -> None:
        self._sums: dict[str, Sums] = {}
        self._depth: int | None = None

    def add_unended(self, name: str) -> None:
        """Count a file that has not ended, or of which nothing is known any more."""
        self._sums_of(_folder(name))[0] += 1

    def add_ended(self, names: Sequence[str], audio_s: Sequence[float], *, is_failed: bool) -> None:
        """Add files of those that ended, with the seconds of audio of each."""
        column = 2 if is_failed else 1
        for name, seconds in zip(names, audio_s, strict=True):
            path = name.rpartition("/")[0]
            sums = self._sums.get(path) or self._sums_of(path)
            sums[0] += 1
            sums[column] += 1
            sums[3] += seconds

    def add_sums(self, path: str, sums: Sequence[float]) -> None:
        """Add files of one folder: how many, succeeded, failed, seconds of audio."""
        known = self._sums_of(path)
        for index, value in enumerate(sums):
            known[index] += value

    def _sums_of(self, path: str) -> Sums:
        if self._depth is not None:
            path = _cut(path, self._depth)
        found = self._sums.get(path)
        if found is None:
            if len(self._sums) >= _MAX_KEPT:
                self._depth = max(map(_depth, self._sums)) - 1
                self._sums = _put_together(self._sums.items(), self._depth)
                return self._sums_of(path)
            found = self._sums[path] = [0, 0, 0, 0.0]
        return found

    def rows(self, most: int = MAX_FOLDERS) -> list[FolderSums]:
        """Return at most `most` folders by name, as deep as fits.

        If there are more of them even at the top, those with the most files and the rest as one.
        """
        deepest = max(map(_depth, self._sums), default=0)
        for depth in range(deepest, 0, -1):
            found = _put_together(self._sums.items(), depth)
            if len(found) <= most:
                return [_row(path, sums) for path, sums in sorted(found.items())]
        top = _put_together(self._sums.items(), 1)
        ordered = sorted(top.items(), key=lambda each: (-each[1][0], each[0]))
        rows = [_row(path, sums) for path, sums in sorted(ordered[: most - 1])]
        if rest := ordered[most - 1 :]:
            name = f"{len(rest)} other folders" if len(rest) > 1 else rest[0][0]
            summed = [sum(column) for column in zip(*(sums for _, sums in rest), strict=True)]
            rows.append(_row(name, summed, is_rest=len(rest) > 1))
        return rows


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _depth(path: str) -> int:
    return path.strip("/").count("/") + 1 if path.strip("/") else 0


def _cut(path: str, depth: int) -> str:
    root = "/" if path.startswith("/") else ""
    return root + "/".join(path.strip("/").split("/")[: max(depth, 0)])


def _add(found: dict[str, Sums], path: str, sums: Sequence[float]) -> None:
    known = found.setdefault(path, [0, 0, 0, 0.0])
    for index, value in enumerate(sums):
        known[index] += value


def _put_together(items: Iterable[tuple[str, Sums]], depth: int) -> dict[str, Sums]:
    found: dict[str, Sums] = {}
    for path, sums in items:
        _add(found, _cut(path, depth), sums)
    return found


def _row(path: str, sums: Sequence[float], *, is_rest: bool = False) -> FolderSums:
    files, succeeded, failed, audio_s = sums
    return FolderSums(
        path=path,
        is_rest=is_rest,
        files=int(files),
        succeeded=int(succeeded),
        failed=int(failed),
        audio_s=round(audio_s, 3),
    )
