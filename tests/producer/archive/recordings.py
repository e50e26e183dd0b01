"""Files that pass for recordings, and what was found of them."""

import os

from producer.archive.find import FoundFile

LONG_AGO_S = 1_700_000_000


def record(path, content=None):
    """Write a file that passes for a recording; its content is its path, so all differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(path) if content is None else content)
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


def found_names(found):
    return sorted(item.name for item in found if isinstance(item, FoundFile))
