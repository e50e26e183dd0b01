"""Which paths may be read: those below `audio.roots`, wherever links lead."""

from collections.abc import Collection
from pathlib import Path

from producer.errors import SourceForbidden


def within_roots(source: str, roots: Collection[Path]) -> str:
    """Return the path to open, links resolved; without roots any path, unchanged.

    Raises:
        SourceForbidden: it is not below one of `roots`, whether or not it exists, or no path.
    """
    if not roots:
        return source
    try:
        path = Path(source).resolve()
        allowed = any(_is_below(path, root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceForbidden("source", f"must be a path: {error}", source) from error
    if not allowed:
        raise SourceForbidden("source", "must lie below audio.roots", source)
    return str(path)


def _is_below(path: Path, root: Path) -> bool:
    """Return whether a path is below a root, by name or else by the file system's own word.

    On a Mac `/volumes/archive` and `/Volumes/Archive` are one folder, and so are composed and
    decomposed umlauts; resolving keeps them as they were typed.
    """
    return path.is_relative_to(root) or any(_is_same(parent, root) for parent in path.parents)


def _is_same(folder: Path, root: Path) -> bool:
    try:
        return folder.samefile(root)
    except OSError:
        return False
