"""Which files of a folder are recordings: by their names, and by patterns that a person gives."""

import fnmatch
import os
import unicodedata
from pathlib import PurePath
from typing import NamedTuple

# What a folder is searched for unless patterns say otherwise: containers that libsndfile or
# FFmpeg read. A file named on its own is taken whatever it is called.
AUDIO_EXTENSIONS = frozenset(
    "3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dss flac flv gsm m2ts m4a m4b m4v"  # noqa: SIM905 a list would take fifty lines
    " mka mkv mov mp1 mp2 mp3 mp4 mpeg mpg mpga mts oga ogg ogv opus ra rf64 snd spx tta voc vob"
    " w64 wav wave webm wma wmv wv".split()
)


class Patterns(NamedTuple):
    """Which files of a folder are taken: shell patterns, upper and lower case alike.

    A pattern with a slash is held against the path within the folder, one without against the
    file's own name and the name of each folder above it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def accept(self, relative: PurePath) -> bool:
        """Return whether the file at this path within the folder is taken."""
        return not self.why_ignored(relative)

    def why_ignored(self, relative: PurePath) -> str:
        """Return the kind of `Ignored` that a file is; "" if it is taken."""
        if any(_matches(relative, pattern) for pattern in self.exclude):
            return "excluded"
        if self.include:
            is_taken = any(_matches(relative, pattern) for pattern in self.include)
        else:
            is_taken = relative.suffix[1:].lower() in AUDIO_EXTENSIONS
        return "" if is_taken else _text(relative.suffix.lower()) or "no extension"


def _matches(relative: PurePath, pattern: str) -> bool:
    pattern = _folded(pattern)
    if "/" in pattern:
        return fnmatch.fnmatchcase(_folded(str(relative)), pattern.lstrip("/"))
    return any(fnmatch.fnmatchcase(_folded(part), pattern) for part in relative.parts)


def _folded(name: str) -> str:
    """Return a name in one case and in composed form: HFS+, zip and rsync leave names in NFD."""
    return unicodedata.normalize("NFC", name).lower()


def _text(suffix: str) -> str:
    """Return a suffix as valid text, whatever bytes it has."""
    return os.fsencode(suffix).decode("utf-8", "backslashreplace")
