"""`audio.path_map`: one share that machines have mounted in different places."""

from collections.abc import Collection
from pathlib import Path


class PathMap:
    """Says where this machine has a folder that jobs know by another path; the longest rule wins.

    Rules are as in the settings, `FROM=TO`; they are about whole folders, not about letters.
    """

    def __init__(self, rules: Collection[str] = ()) -> None:
        split = (rule.partition("=/") for rule in rules)
        folders = ((Path(start), Path(f"/{end}")) for start, _, end in split)
        self._folders = sorted(folders, key=lambda pair: len(pair[0].parts), reverse=True)

    def apply(self, path: str) -> str:
        """Return the path as this machine has it; unchanged where no rule is about it."""
        for start, end in self._folders:
            if Path(path).is_relative_to(start):
                return str(end / Path(path).relative_to(start))
        return path
