"""What stands on a command line for recordings: files, folders, patterns, lists, manifests."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import BinaryIO

from producer.archive.find import Found, Names, find, is_folder, read_list, readable
from producer.archive.manifest import read_manifest
from producer.archive.patterns import Patterns
from producer.errors import InvalidOptions
from producer.source import is_prefix, is_remote

STDIN = "-"


def is_many(argument: str) -> bool:
    """Return whether an argument is a folder or a pattern; a file that is missing is still one."""
    if is_remote(argument):
        return is_prefix(argument)
    path = Path(argument)
    return is_folder(path) or (has_magic(argument) and not path.exists())


@dataclass(frozen=True)
class SubmitInputs:
    """What is to be submitted, as it stands on the command line."""

    paths: list[str]
    lists: list[Path]
    manifests: list[Path]
    patterns: Patterns
    separator: bytes

    def check(self) -> None:
        """Make sure that there is something to look for.

        Raises:
            InvalidOptions: there is nothing, or no such list.
        """
        if not self.names():
            raise InvalidOptions("submit", "needs files, folders, -, --files-from or --manifest")
        for path in self.lists:
            # Not only a file: `<(find ...)` of a shell is a pipe.
            if str(path) != STDIN and (is_folder(path) or not path.exists()):
                raise InvalidOptions("--files-from", "must be an existing file", path)

    def names(self) -> list[str]:
        """Return all arguments, in order."""
        return [*self.paths, *map(str, self.lists), *map(str, self.manifests)]

    def are_many(self) -> bool:
        """Return whether they stand for more than single files."""
        many = any(path == STDIN or is_many(path) for path in self.paths)
        return bool(self.lists or self.manifests) or many

    def find(self, names: Names) -> Iterator[Found]:
        """Yield what is found, as `producer.archive.find.find` does."""
        yield from find(self._arguments(), names, self.patterns)
        for manifest in self.manifests:
            yield from read_manifest(manifest, names)

    def _arguments(self) -> Iterator[str]:
        for path in self.paths:
            if path == STDIN:
                yield from read_list(sys.stdin.buffer, self.separator)
            else:
                yield path
        for path in map(str, self.lists):
            with nullcontext(sys.stdin.buffer) if path == STDIN else _opened(path) as stream:
                yield from read_list(stream, self.separator)


def _opened(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        must = f"must be readable: {error.strerror}"
        raise InvalidOptions("--files-from", must, readable(path)) from error
